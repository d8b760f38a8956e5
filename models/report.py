"""The draft report of a result: a report model may write the impression, the measurements decide whether it stands."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from models.comparison_claims import comparison_problems, without_change
from models.composer import compose, with_history, wording
from models.consistency import contradictions, omissions
from models.errors import ModelError, OutsideLimits, TextContradictsResult, Transient
from models.finding_claims import finding_problems
from models.loose_claims import loose_problems
from models.output_guard import faults
from models.own_text import with_own_text
from models.remote_errors import TextWithheld
from models.results import SUBACUTE, Comparison, Draft, Outcome, StudyResult
from models.vocabulary import unknown_words
from models.volume import Volume

if TYPE_CHECKING:
    from models.model import Model

logger = logging.getLogger(__name__)


BLOCK, FLAG = "block", "flag"
"""What becomes of generated text that contradicts the result: the composer's stands instead, or it is shown as doubtful."""


def draft(
    result: StudyResult,
    language: str,
    *,
    generator: Model | None,
    inputs: Mapping[str, Volume],
    policy: str = BLOCK,
) -> Draft:
    """Return the draft report of ``result`` in ``language``.

    Parameters
    ----------
    result : StudyResult
        Any outcome. A study that was not assessed never reaches the generator, and none of the subacute mode does: every
        lesion would be an acute infarct to it, and to the check of its text.
    language : str
        ``"en"`` or ``"ja"``.
    generator : Model or None
        A model of family ``generation``; None for the composer's text alone.
    inputs : mapping of str to Volume
        What the result was computed from, by role.
    policy : str
        ``"block"`` or ``"flag"``.

    Returns
    -------
    Draft
        The composer's text. Its impression is the generator's, with ``author`` set, only when that contradicts no
        measurement and leaves out neither volume, number nor side; otherwise a note beginning with ``MOD-007`` says
        what was wrong, and :attr:`Draft.objections` has it for the ledger. By policy ``"flag"`` the doubtful text follows
        the composer's impression, behind that note. Text that holds identifiers, or claims that somebody has checked it,
        is never shown (``TXT-001``). When the generator fails, a note gives the code of its error. What the model itself
        wrote from the images (``result.drafts``) stands in the findings, with what was not measured named beside it
        (:mod:`models.own_text`).

    Raises
    ------
    ModelError
        Only one that is :class:`Transient`: a fallback then would make the text depend on luck.
    """
    # The figures of other studies and runs would pass for contradictions.
    alone = replace(result, comparison=None, not_compared=None, replaces=None)
    return with_history(_draft(alone, result.comparison, language, generator, inputs, policy), result)


def objections(candidate: Draft, result: StudyResult, comparison: Comparison | None) -> tuple[str, ...]:
    """What a generated text states against a result, or leaves out; ``result`` without its history."""
    if result.segmentation is None and result.findings:
        found = finding_problems(candidate, result)
    else:
        # "No change" denies a change, and no finding.
        said = replace(candidate, impression=without_change(candidate.impression)) if comparison else candidate
        found = contradictions(said, result) + omissions(said, result)
        found += loose_problems(candidate.impression, result)
    strange = unknown_words(candidate.impression, candidate.language, result)
    return tuple(dict.fromkeys((*found, *comparison_problems(candidate.impression, comparison), *strange)))


def answer_objections(answered: Draft, results: Sequence[StudyResult]) -> tuple[str, ...]:
    """What an answer states against results that were measured for it; an answer need not tell them all."""
    found: list[str] = []
    for result in results:
        if result.segmentation is None and result.findings:
            found += finding_problems(answered, result, complete=False)
        else:
            found += contradictions(answered, result, complete=False) + loose_problems(answered.impression, result)
    return tuple(dict.fromkeys((*found, *comparison_problems(answered.impression, None)))) if results else ()


def _draft(
    result: StudyResult,
    comparison: Comparison | None,
    language: str,
    generator: Model | None,
    inputs: Mapping[str, Volume],
    policy: str,
) -> Draft:
    composed = compose(result, language)
    if result.drafts:
        return with_own_text(composed, result)
    if generator is None or result.outcome is Outcome.NOT_ASSESSED or SUBACUTE in result.limitations:
        return composed
    words = wording(language, result)
    try:
        # A chain may word the comparison; what others are told is the same without it.
        written = generator.write(replace(result, comparison=comparison), inputs, language)
    except (ModelError, OutsideLimits) as error:
        if isinstance(error, Transient):
            raise
        logger.warning("report model %s failed: %s", generator.card.id, error)
        return replace(composed, notes=(*composed.notes, words.generator_failed(error.code)))
    if found := faults(f"{written.findings}\n{written.impression}"):
        withheld = TextWithheld(f"the generated text {' and '.join(found)}")
        logger.warning("report model %s: %s", generator.card.id, withheld)
        note = words.generator_failed(withheld.code)
        return replace(
            composed, notes=(*composed.notes, note), objections=tuple(f"{withheld.code}: {each}" for each in found)
        )
    candidate = replace(composed, impression=written.impression, author=written.author)
    author = () if written.author is None else (words.generated_by(written.author),)
    problems = objections(candidate, result, comparison)
    if not problems:
        return replace(candidate, notes=(*composed.notes, *author, *written.notes))
    code = TextContradictsResult.code
    said = tuple(f"{code}: {each}" for each in problems)
    if policy == FLAG:
        logger.warning(
            "%s: text of report model %s is shown as doubtful: %s", code, generator.card.id, "; ".join(problems)
        )
        flagged = words.flagged(code, problems)
        return replace(
            candidate,
            impression="\n".join((composed.impression, flagged, written.impression)),
            notes=(*composed.notes, flagged, *author, *written.notes),
            objections=said,
        )
    logger.warning("%s: text of report model %s discarded: %s", code, generator.card.id, "; ".join(problems))
    return replace(composed, notes=(*composed.notes, words.contradicted(code, problems)), objections=said)
