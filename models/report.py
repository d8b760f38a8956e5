"""The draft report of a result: a report model may write the impression, the measurements decide whether it stands."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from models.composer import compose, with_history, wording
from models.consistency import contradictions, omissions
from models.errors import ModelError, TextContradictsResult, Transient
from models.own_text import with_own_text
from models.results import Draft, Outcome, StudyResult
from models.volume import Volume

if TYPE_CHECKING:
    from models.registry import Model

logger = logging.getLogger(__name__)


def draft(result: StudyResult, language: str, *, generator: Model | None, inputs: Mapping[str, Volume]) -> Draft:
    """Return the draft report of ``result`` in ``language``.

    Parameters
    ----------
    result : StudyResult
        Any outcome. A study that was not assessed never reaches the generator.
    language : str
        ``"en"`` or ``"ja"``.
    generator : Model or None
        A model of family ``generation``; None for the composer's text alone.
    inputs : mapping of str to Volume
        What the result was computed from, by role.

    Returns
    -------
    Draft
        The composer's text. Its impression is the generator's, with ``author`` set, only when that contradicts no
        measurement and leaves out neither volume, number nor side; otherwise a note beginning with ``MOD-007`` says
        what was wrong. When the generator fails, a note gives the code of its error. What the model itself wrote from
        the images (``result.drafts``) stands in the findings, with what was not measured named beside it
        (:mod:`models.own_text`).

    Raises
    ------
    ModelError
        Only one that is :class:`Transient`: a fallback then would make the text depend on luck.
    """
    # The figures of other studies and runs would pass for contradictions.
    alone = replace(result, comparison=None, not_compared=None, replaces=None)
    return with_history(_draft(alone, language, generator, inputs), result)


def _draft(result: StudyResult, language: str, generator: Model | None, inputs: Mapping[str, Volume]) -> Draft:
    composed = compose(result, language)
    if result.drafts:
        return with_own_text(composed, result)
    if generator is None or result.outcome is Outcome.NOT_ASSESSED:
        return composed
    words = wording(language, result)
    try:
        written = generator.write(result, inputs, language)
    except ModelError as error:
        if isinstance(error, Transient):
            raise
        logger.warning("report model %s failed: %s", generator.card.id, error)
        return replace(composed, notes=(*composed.notes, words.generator_failed(error.code)))
    candidate = replace(composed, impression=written.impression, author=written.author)
    problems = contradictions(candidate, result) + omissions(candidate, result)
    if problems:
        code = TextContradictsResult.code
        logger.warning("%s: text of report model %s discarded: %s", code, generator.card.id, "; ".join(problems))
        return replace(composed, notes=(*composed.notes, words.contradicted(code, problems)))
    author = () if written.author is None else (words.generated_by(written.author),)
    return replace(candidate, notes=(*composed.notes, *author, *written.notes))
