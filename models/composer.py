"""The deterministic report text: same result, same words, no model involved.

It is what leaves when no report model is installed, and what replaces generated text that contradicts the result.
"""

from __future__ import annotations

from dataclasses import replace

from models import history
from models.phrases_en import English
from models.phrases_ja import Japanese
from models.report_facts import ReportFacts
from models.results import Draft, Outcome, StudyResult

LISTED_LESIONS = 5
"""The largest lesions get a line each; the others are summed."""

ALWAYS_STATED = ("negative_is_not_exclusion", "subacute_missed")
"""Limitations of any look for restricted diffusion, whatever the model says of itself."""

Wording = English | Japanese


def wording(language: str) -> Wording:
    """Return the sentences of ``language``.

    Raises
    ------
    ValueError
        ``language`` is neither ``"en"`` nor ``"ja"``; settings admit no other.
    """
    for candidate in (English(), Japanese()):
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
    words = wording(language)
    facts = ReportFacts.of(result)
    if result.outcome is Outcome.NOT_ASSESSED:
        findings, impression = [words.not_assessed(result.refusal)], words.not_assessed_impression()
    elif result.outcome is Outcome.NOTHING_FOUND:
        findings, impression = [words.nothing_found()], words.nothing_found_impression(facts)
    else:
        findings, impression = _found(facts, words), words.found_impression(facts)
    if result.outcome is not Outcome.NOT_ASSESSED:
        findings += _limits(facts, words)
    notes = (words.ai_draft(), *_limitations(result, words), words.model(result.model))
    composed = Draft(language=language, findings="\n".join(findings), impression=impression, author=None, notes=notes)
    return with_history(composed, result)


def with_history(draft: Draft, result: StudyResult) -> Draft:
    """The draft with what is said of earlier results: the comparison with an earlier study, and what this replaces.

    Added after a generated text was checked: its figures are those of another study or of another run.
    """
    words = wording(draft.language)
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
    lines = [words.found(facts)]
    lines += [words.lesion(lesion) for lesion in facts.lesions[:LISTED_LESIONS]]
    rest = facts.lesions[LISTED_LESIONS:]
    if rest:
        lines.append(words.remaining(len(rest), sum(lesion.volume_ml for lesion in rest)))
    return lines


def _limits(facts: ReportFacts, words: Wording) -> list[str]:
    lines = []
    if facts.detection_limit_ml is not None:
        lines.append(words.detection_limit(facts.detection_limit_ml))
    if facts.reporting_threshold_ml is not None:
        lines.append(words.reporting_threshold(facts.reporting_threshold_ml))
    return lines


def _limitations(result: StudyResult, words: Wording) -> list[str]:
    if result.outcome is Outcome.NOT_ASSESSED:
        return []
    keys = dict.fromkeys((*ALWAYS_STATED, *result.limitations))
    # A key this release has no sentence for still reaches the reader, as it is.
    return [words.limitations.get(key, key) for key in keys]
