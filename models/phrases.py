"""Conditions as phrases: what an image–text model is asked, and how several phrases count together."""

from __future__ import annotations

from itertools import product

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.results import CodedTerm


class PhraseClass(BaseModel):
    """One condition, and the phrases its vectors were made of.

    Attributes
    ----------
    positive, negative : tuple of str
        Phrases that say it, and that deny it.
    combine : tuple of tuple of str
        Instead of ``positive``: every combination of one of each, in order, with spaces between them. All of them count,
        always: drawing some at random, as published code does, gives another answer each time.
    background : bool
        The class only competes: that nothing is to be seen is no finding.
    operating_point : float or None
        Probability from which the condition counts as present; None: where it is the largest of all, or more than half.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_-]{1,64}$")
    concept: CodedTerm
    positive: tuple[str, ...] = ()
    combine: tuple[tuple[str, ...], ...] = ()
    negative: tuple[str, ...] = ()
    background: bool = False
    operating_point: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _says_something(self) -> PhraseClass:
        if bool(self.positive) == bool(self.combine):
            raise ValueError("either positive or combine must name phrases")
        if any(not part for part in self.combine):
            raise ValueError("combine: a part names nothing")
        return self

    @property
    def positive_phrases(self) -> tuple[str, ...]:
        """All phrases that say it, in a fixed order."""
        return self.positive or tuple(" ".join(parts) for parts in product(*self.combine))
