"""Answers to questions as typed results: checked words, the question as data, and who looked at what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from models.errors import CardInvalid, TextContradictsResult
from models.identifying_text import without_identifiers
from models.output_guard import faults
from models.phrases_general_en import GeneralEnglish
from models.phrases_general_ja import GeneralJapanese
from models.questions import Question
from models.remote_errors import TextWithheld
from models.results import Draft, Outcome, RefusalReason, StudyResult
from models.untrusted import as_data
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

TITLE = "Answer to a question about the images"
_WORDINGS: dict[str, GeneralEnglish | GeneralJapanese] = {"en": GeneralEnglish(), "ja": GeneralJapanese()}
_WHERE = {
    "en": {"order": "Question in the order", "report": "Question in a text report"},
    "ja": {"order": "オーダに記載された質問", "report": "テキストレポートに記載された質問"},
}
_NOT_QUOTED = {
    "en": "not quoted here, because it holds more than a question",
    "ja": "質問以外の内容を含むため引用しない",
}
_NOTHING_MEASURED = {
    "en": "An answer in words: nothing was measured, and the rest of the images was not assessed.",
    "ja": "文章による回答であり、計測は行われていない。その他の画像は評価していない。",
}
_MEASURED = {
    "en": "Measured by other models for this answer, which is in words; the rest of the images was not assessed:",
    "ja": "この回答のために他のモデルが計測した結果（回答自体は文章であり、その他の画像は評価していない）：",
}
_REMOVED = "[…]"


def answer(model: Model, question: Question, inputs: Mapping[str, Volume], languages: Sequence[str]) -> StudyResult:
    """Put a question to a model and return what may be said of it.

    Parameters
    ----------
    model : Model
        One that answers questions.
    inputs : mapping of str to Volume
        By role; the first one is the grid that :attr:`Draft.looked_at` counts on.
    languages : sequence of str
        Of the drafts; the model is asked once for each.

    Returns
    -------
    StudyResult
        FOUND with drafts alone; NOT_ASSESSED with ``TXT-001`` where a text holds what none may hold.

    Raises
    ------
    ModelError
        The model failed.
    """
    drafts = []
    known = model.languages
    for language in languages:
        # What it does not write is said in the others' place; where it writes none of them, asking says so.
        if known is not None and language not in known and known & set(languages):
            drafts.append(_unwritten(model, question, language))
            continue
        written = model.answer(question, inputs, language)
        if found := faults(f"{written.findings}\n{written.impression}", [question.text]):
            return _withheld(model, found)
        drafts.append(_draft(model, question, written, language))
    return StudyResult(
        outcome=Outcome.FOUND,
        title=TITLE,
        finding=model.card.finding,
        site=model.card.site,
        model=model.reference({}),
        limitations=model.card.limitations,
        drafts=tuple(drafts),
        evidence={
            "question": {"source": question.source, "language": question.language, "characters": len(question.text)}
        },
    )


def quoted(question: Question, language: str) -> str:
    """The question as it may be repeated: without identifiers, and not at all where it holds instructions."""
    text = as_data(question.text)
    if any(not each.startswith("holds a") or each.endswith("tool") for each in faults(text)):
        return _NOT_QUOTED[language]
    return without_identifiers(text, _REMOVED)


def _draft(model: Model, question: Question, written: Draft, language: str) -> Draft:
    words = _WORDINGS.get(language)
    if words is None:
        raise CardInvalid(f"no wording of answers in {language}")
    measured = (_MEASURED[language], written.findings) if written.findings else (_NOTHING_MEASURED[language],)
    lines = [f"{_WHERE[language][question.source]}: {quoted(question, language)}", *measured]
    notes = [words.ai_draft()]
    notes += [words.limitations.get(key, key) for key in model.card.limitations]
    notes += [words.model(model.reference({}))]
    notes += [] if written.author is None else [words.generated_by(written.author)]
    flagged = [words.flagged(TextContradictsResult.code, written.objections)] if written.objections else []
    return Draft(
        language,
        "\n".join(lines),
        "\n".join((*flagged, written.impression)),
        author=written.author,
        notes=(*notes, *flagged, *written.notes),
        looked_at=written.looked_at,
        objections=tuple(f"{TextContradictsResult.code}: {each}" for each in written.objections),
    )


def _unwritten(model: Model, question: Question, language: str) -> Draft:
    """The draft in a language the model does not write, beside one in a language it writes."""
    words = _WORDINGS[language]
    said = words.not_in_language(", ".join(sorted(model.languages or ())))
    return _draft(model, question, Draft(language, "", said), language)


def _withheld(model: Model, found: tuple[str, ...]) -> StudyResult:
    error = TextWithheld(f"the generated answer {' and '.join(found)}", faults=list(found))
    return StudyResult(
        outcome=Outcome.NOT_ASSESSED,
        title=TITLE,
        finding=model.card.finding,
        site=model.card.site,
        model=model.reference({}),
        refusal=RefusalReason(error.code, error.message, error.remedy, error.detail),
        evidence={"refusal": {"code": error.code, "message": error.message, **error.detail}},
    )
