"""The section about programs that models of family ``external`` run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from node.settings.section import FilePath, Section


class ExternalSection(Section):
    """What this site lets programs have; docs/model-engineer.md says how they are shut in."""

    folders: list[FilePath] = Field(default_factory=list)
    unisolated: list[str] = Field(default_factory=list)
    runtime: Literal["auto", "podman", "docker"] = "auto"
    maximum_processes: int = Field(default=512, ge=1, le=65536)
