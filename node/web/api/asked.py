"""What the API takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Asked(BaseModel):
    """Base of what is sent: unknown keys are refused, so that a misspelt one does not do half of what was meant."""

    model_config = ConfigDict(extra="forbid")


Reason = Annotated[str, Field(min_length=1, max_length=500)]


class HoldAsked(Asked):
    """Why a study is held."""

    reason: Annotated[str, Field(max_length=500)] = ""


class PauseAsked(Asked):
    """What to stop, and why."""

    scope: Literal["model", "rule", "destination", "all"]
    name: Annotated[str, Field(max_length=128)] = ""
    reason: Reason


class ResumeAsked(PauseAsked):
    """What to let go on, and what becomes of what waited."""

    run_backlog: bool


class ReplayAsked(Asked):
    """Which lost deliveries to send again."""

    destination: Annotated[str, Field(max_length=63)] | None = None
    since: float | None = None
    until: float | None = None


class ApprovalAsked(Asked):
    """Acceptance of a licence, for the very files whose card was read."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    accept_licence: Literal[True]
