"""Sections about the node itself: who it is, where it keeps things, what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from node.settings.section import AETitle, Name, Section
from node.toml_file import DEFAULT_DATA_DIR


class NodeSection(Section):
    """Who this node is."""

    name: Name = "ainode"
    ae_title: AETitle = "AINODE"
    data_dir: Path = Path(DEFAULT_DATA_DIR)
    language: Literal["en", "ja"] = "en"
    institution: str = ""
    time_zone: str = ""
    jj1017_parts: dict[str, str] = Field(default_factory=dict)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            if value:
                ZoneInfo(value)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"time_zone: '{value}' is not known; write it like \"Asia/Tokyo\"") from error
        return value


class StoreSection(Section):
    """Where the index, jobs and ledger live. Empty url: SQLite in data_dir."""

    url: str = ""
    busy_timeout_seconds: float = Field(default=30.0, gt=0, le=600)


class LogSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
