"""The section about the processes that models run in."""

from __future__ import annotations

from pydantic import Field

from node.settings.section import Section


class ModelHostSection(Section):
    """How model hosts, and the programs of external models, are shut in; docs/confinement.md."""

    confine: bool = True
    user: str = Field(default="", pattern=r"^([a-z_][a-z0-9_-]{0,30})?$")
