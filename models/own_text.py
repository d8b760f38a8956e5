"""Text a model wrote from the images themselves, in the draft report: with nothing measured behind it, and saying so."""

from __future__ import annotations

from dataclasses import replace

from models.composer import wording
from models.consistency import contradictions
from models.output_guard import faults
from models.remote_errors import TextWithheld
from models.results import Draft, StudyResult

LARGEST_NOTE = 5
"""What was not measured is named up to so often."""


def with_own_text(composed: Draft, result: StudyResult) -> Draft:
    """``composed`` with the text the model wrote in that language, checked.

    The check is that of every generated text (:func:`models.consistency.contradictions`). Where the result has no
    measurement, nothing can contradict one: what the check finds is named as not measured, and the text stands under that
    heading. Where there are measurements, a text that contradicts them is left out.
    """
    words = wording(composed.language, result)
    own = next((each for each in result.drafts if each.language == composed.language), None)
    if own is None or not own.findings.strip():
        written = ", ".join(each.language for each in result.drafts)
        return replace(composed, findings=_joined(words.not_in_language(written), composed.findings))
    if found := faults(own.findings):
        # Nothing of it is shown: it says who somebody is, or what a text like this can never say.
        withheld = words.generator_failed(TextWithheld.code)
        said = tuple(f"{TextWithheld.code}: {each}" for each in found)
        return replace(composed, notes=(*composed.notes, withheld), objections=said)
    problems = contradictions(replace(own, impression=own.findings), result)
    author = () if own.author is None else (words.read_by(own.author),)
    if problems and _measured(result):
        return replace(composed, notes=(*composed.notes, words.contradicted("MOD-007", problems), *author))
    flagged = (words.not_measured(problems[:LARGEST_NOTE]),) if problems else ()
    return replace(
        composed,
        findings=_joined(words.model_reading(), own.findings, composed.findings),
        impression=words.reading_impression(),
        notes=(*composed.notes, *own.notes, *flagged, *author),
        author=own.author,
    )


def _measured(result: StudyResult) -> bool:
    return result.segmentation is not None or bool(result.findings or result.marks)


def _joined(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
