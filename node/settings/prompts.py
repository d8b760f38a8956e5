"""Sections about what readers ask for by drawing: a region, sent to the node, that a promptable model outlines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from node.settings.section import AETitle, Name, Section
from node.settings.work import RuleSection

Drawn = Literal["SR", "PR", "SEG", "RTSTRUCT"]
_DRAWN: tuple[Drawn, ...] = ("PR", "SEG", "RTSTRUCT")


class PromptSection(Section):
    """Which objects are requests, which model answers them, and where the answer goes. The name is free of ``.``."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$")
    model: str
    objects: list[Drawn] = Field(default_factory=lambda: list(_DRAWN))
    calling_ae_titles: list[AETitle] = Field(default_factory=list)
    called_ae_titles: list[AETitle] = Field(default_factory=list)
    archive: Name | None = None
    method: Literal["auto", "move", "get"] = "auto"
    patience_seconds: float = Field(default=120.0, ge=0, le=86400)
    follow: bool = True
    destinations: list[Name] = Field(default_factory=list)
    priority: Literal["stat", "urgent", "routine", "off-peak"] = "urgent"
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400)
    parameters: dict[str, str] = Field(default_factory=dict)

    def as_rule(self, request_key: str) -> RuleSection:
        """What one request is run by: results of two requests never take each other's place.

        Parameters
        ----------
        request_key : str
            Short hex of the request.
        """
        rule = RuleSection(
            name=self.name,
            model=self.model,
            destinations=self.destinations,
            priority=self.priority,
            deadline_seconds=self.deadline_seconds,
            compare_with_prior=False,
            parameters=self.parameters,
        )
        return rule.model_copy(update={"name": f"{self.name}{SEPARATOR}{request_key}"})


SEPARATOR = "@"
"""Between the name of a prompt and the request; no name of a rule holds it."""
