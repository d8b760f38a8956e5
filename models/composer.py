"""The deterministic report text: same result, same words, no model involved.

It is what leaves when no report model is installed, and what replaces generated text that contradicts the result.
"""

from __future__ import annotations

from dataclasses import replace

from models import history
from models.phrases_en import English
from models.phrases_general_en import GeneralEnglish
from models.phrases_general_ja import GeneralJapanese
from models.phrases_ja import Japanese
from models.report_facts import ReportFacts
from models.results import SUBACUTE, Draft, Outcome, StudyResult

LISTED_LESIONS = 5
"""The largest lesions get a line each; the others are summed."""

INFARCT_CODE = "55641003"
"""Infarct, SCT: what the wording of restricted diffusion is for."""

Wording = English | Japanese


def wording(language: str, result: StudyResult) -> Wording:
    """Return the sentences of ``language`` for what ``result`` looked for.

    Raises
    ------
    ValueError
        ``language`` is neither ``"en"`` nor ``"ja"``; settings admit no other.
    """
    infarct = result.finding.value == INFARCT_CODE
    known: tuple[Wording, ...] = (English(), Japanese()) if infarct else (GeneralEnglish(), GeneralJapanese())
    for candidate in known:
        if candidate.language == language:
            return candidate
    raise ValueError(f"no report text in language {language!r}: en and ja are known")


def compose(result: StudyResult, language: str) -> Draft:
    """Return the report text of ``result``.

    Parameters
    ----------
    result : StudyResult
        Any outcome.
    language : str
        ``"en"`` or ``"ja"``.

    Returns
    -------
    Draft
        ``findings``: one sentence a line. ``impression``: one or two sentences. ``notes``: that it is an unreviewed
        AI draft, the limitations, and the model; all three belong beside the text wherever it is shown.

    Raises
    ------
    ValueError
        The language is not known.
    """
    words = wording(language, result)
    facts = ReportFacts.of(result)
    if result.outcome is Outcome.NOT_ASSESSED:
        findings, impression = [words.not_assessed(result.refusal)], words.not_assessed_impression()
    elif result.outcome is Outcome.NOTHING_FOUND:
        bright = [words.nothing_bright()] if facts.subacute else []
        findings = [words.nothing_found(), *bright, *_scores(facts, words)]
        impression = words.nothing_found_impression(facts)
    else:
        findings, impression = _found(facts, words), _found_impression(facts, words)
        if facts.outlined:
            outlined = words.outlined(facts.outlined)
            findings, impression = [outlined, *findings], impression or outlined
        if result.marks and not facts.lesions:
            marked = words.marked(tuple(dict.fromkeys(mark.label for mark in result.marks)))
            findings, impression = [*findings, marked], impression or marked
    if result.outcome is not Outcome.NOT_ASSESSED:
        findings += _limits(facts, words)
    swept = words.swept(facts)
    notes = (words.ai_draft(), *_limitations(result, words), *([swept] if swept else []), words.model(result.model))
    composed = Draft(language=language, findings="\n".join(findings), impression=impression, author=None, notes=notes)
    return with_history(composed, result)


def measured_text(result: StudyResult, language: str) -> str:
    """What was measured in these images, in sentences for a model: without earlier studies, whose day no prompt may hold."""
    measured = compose(replace(result, comparison=None, not_compared=None, replaces=None), language)
    return f"{measured.findings}\n{measured.impression}"


def with_history(draft: Draft, result: StudyResult) -> Draft:
    """The draft with what is said of earlier results: the comparison with an earlier study, and what this replaces.

    Added after a generated text was checked: its figures are those of another study or of another run.
    """
    words = wording(draft.language, result)
    findings, impression, notes = [draft.findings], [draft.impression], list(draft.notes)
    if result.comparison is not None:
        findings += history.compared(result.comparison, draft.language)
        impression.append(history.compared_impression(result.comparison, draft.language))
    elif result.not_compared is not None:
        findings.append(history.not_compared(result.not_compared, draft.language))
    if result.replaces is not None:
        notes.insert(0, history.replaced(result, result.replaces, draft.language))
    return replace(
        draft,
        findings="\n".join(line for line in findings if line),
        impression=words.separator.join(line for line in impression if line),
        notes=tuple(notes),
    )


def _found(facts: ReportFacts, words: Wording) -> list[str]:
    low, bright = facts.part(dwi_only=False), facts.part(dwi_only=True)
    if bright.count:
        lines = [words.found(low) if low.count else words.nothing_found(), words.bright(bright)]
    else:
        lines = [words.found(facts), *([words.nothing_bright()] if facts.subacute else [])]
    lines += [words.lesion(lesion) for lesion in facts.lesions[:LISTED_LESIONS]]
    rest = facts.lesions[LISTED_LESIONS:]
    if rest:
        lines.append(words.remaining(len(rest), sum(lesion.volume_ml for lesion in rest)))
    if facts.flair_ratio is not None:
        lines.append(words.flair_ratio(facts.flair_ratio))
    return [line for line in (*lines, *_scores(facts, words)) if line]


def _found_impression(facts: ReportFacts, words: Wording) -> str:
    """Of restricted diffusion; and, in the subacute mode, of what is bright without it, in a sentence of its own."""
    low, bright = facts.part(dwi_only=False), facts.part(dwi_only=True)
    if not bright.count:
        return words.found_impression(facts)
    first = words.found_impression(low) if low.count else words.nothing_found_impression(facts)
    return words.separator.join((first, words.bright_impression(bright)))


def _scores(facts: ReportFacts, words: Wording) -> list[str]:
    """Findings that count as present first, then the others, each by its score."""
    ordered = sorted(facts.findings, key=lambda each: (not each.present, -each.probability))
    return [line for line in map(words.finding, ordered) if line]


def _limits(facts: ReportFacts, words: Wording) -> list[str]:
    lines = []
    if facts.detection_limit_ml is not None:
        lines.append(words.detection_limit(facts.detection_limit_ml))
    if facts.reporting_threshold_ml is not None:
        lines.append(words.reporting_threshold(facts.reporting_threshold_ml))
    return lines


def _limitations(result: StudyResult, words: Wording) -> list[str]:
    found = words.stated_when_found if result.outcome is Outcome.FOUND else ()
    # What always limits a method says nothing where it was not applied.
    always = () if result.outcome is Outcome.NOT_ASSESSED else (*words.always_stated, *found)
    keys = dict.fromkeys((*always, *result.limitations))
    if SUBACUTE in keys:
        keys.pop("subacute_missed", None)  # the sentence on the mode says what is still missed
    # A key this release has no sentence for still reaches the reader, as it is.
    return [words.limitations.get(key, key) for key in keys]
