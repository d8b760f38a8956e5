"""Sections about what is done: arrival, jobs, models, rules."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from node.settings.section import Name, Section


class ArrivalSection(Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(default=20.0, ge=0, le=3600)
    association_end_quiet_seconds: float = Field(default=5.0, ge=0, le=3600)
    maximum_wait_seconds: float = Field(default=1800.0, gt=0)
    missing_wait_seconds: float = Field(default=120.0, ge=0, le=86400)
    performed_step_wait_seconds: float = Field(default=3600.0, ge=0, le=86400)
    series_quiet_seconds: float = Field(default=10.0, ge=0, le=3600)
    archive: Name | None = None
    archive_settle_seconds: float = Field(default=5.0, ge=0, le=3600)
    archive_ask_seconds: float = Field(default=15.0, ge=1, le=3600)
    rhythm_quantile: float = Field(default=0.98, ge=0.5, le=1.0)
    rhythm_minimum: int = Field(default=20, ge=1, le=10000)
    rhythm_floor_seconds: float = Field(default=2.0, ge=0, le=3600)
    rhythm_ceiling_seconds: float = Field(default=180.0, ge=0, le=3600)
    history_days: float = Field(default=30.0, ge=0, le=3650)


class JobsSection(Section):
    """The dispatchers."""

    dispatchers: int = Field(default=1, ge=1, le=64)
    stat_slot: bool = True
    executor: Literal["local", "ray"] = "local"
    deadline_seconds: float = Field(default=600.0, gt=0, le=86400)
    maximum_attempts: int = Field(default=3, ge=1, le=20)
    lease_seconds: float = Field(default=30.0, ge=2, le=3600)
    retry_seconds: float = Field(default=5.0, ge=0, le=3600)
    threads: int = Field(default=0, ge=0, le=256)


class ModelsSection(Section):
    """Where model folders lie, beside the embedded catalogue."""

    folders: list[Path] = Field(default_factory=list)


class RuleMatch(Section):
    """Every given condition must hold. Text conditions are shell patterns, compared without regard to case."""

    modality: list[str] = Field(default_factory=list)
    body_part: list[str] = Field(default_factory=list)
    study_description: list[str] = Field(default_factory=list)
    protocol_name: list[str] = Field(default_factory=list)
    procedure_code: list[str] = Field(default_factory=list)
    station_name: list[str] = Field(default_factory=list)
    manufacturer: list[str] = Field(default_factory=list)
    calling_ae_title: list[str] = Field(default_factory=list)
    called_ae_title: list[str] = Field(default_factory=list)
    diffusion: bool | None = None
    minimum_instances: int = Field(default=1, ge=1)


class RuleSection(Section):
    """One rule of routing.toml: which studies go to which model and where the answer goes."""

    name: Name
    model: str
    report_model: str | None = None
    match: RuleMatch = Field(default_factory=RuleMatch)
    destinations: list[Name] = Field(default_factory=list)
    priority: Literal["stat", "urgent", "routine", "off-peak"] = "routine"
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400)
    shadow: bool = False
    parameters: dict[str, str] = Field(default_factory=dict)
