"""Sections about asking archives for studies: reconciliation, and the watch on an archive that cannot route."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from node.settings.section import Name, Section

Method = Literal["auto", "move", "get"]


class ReconcileSection(Section):
    """What the archive has, held against what this node has and has answered."""

    archive: Name | None = None
    interval_seconds: float = Field(default=3600.0, ge=60, le=7 * 86400)
    hours_back: float = Field(default=24.0, gt=0, le=24 * 366)
    margin_hours: float = Field(default=6.0, ge=0, le=72)
    settle_seconds: float = Field(default=600.0, ge=0, le=86400)
    late_seconds: float = Field(default=900.0, gt=0, le=7 * 86400)
    fetch: bool = False
    method: Method = "auto"
    maximum_studies: int = Field(default=500, ge=1, le=10000)


class WatchSection(Section):
    """An archive that is asked for new studies because it sends none. The table's name is that of a destination."""

    interval_seconds: float = Field(default=60.0, ge=1, le=3600)
    jitter_seconds: float = Field(default=10.0, ge=0, le=600)
    hours_back: float = Field(default=4.0, gt=0, le=168)
    modalities: list[str] = Field(default_factory=list)
    settle_seconds: float = Field(default=120.0, ge=0, le=86400)
    method: Method = "auto"
    maximum_studies: int = Field(default=500, ge=1, le=10000)

    @field_validator("modalities")
    @classmethod
    def _modality_codes(cls, value: list[str]) -> list[str]:
        for each in value:
            if not each.isalnum() or not each.isupper() or len(each) > 16:
                raise ValueError(f"modalities: '{each}' is no modality; write it like \"MR\"")
        return value
