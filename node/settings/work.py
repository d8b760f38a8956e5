"""Sections about what is done: arrival, jobs, models, rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from node.image_tags import NUMBER_TAGS, TEXT_TAGS
from node.settings.section import Name, Section


class ArrivalSection(Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(default=20.0, ge=0, le=3600)
    association_end_quiet_seconds: float = Field(default=5.0, ge=0, le=3600)
    maximum_wait_seconds: float = Field(default=1800.0, gt=0)
    missing_wait_seconds: float = Field(default=120.0, ge=0, le=86400)
    performed_step_wait_seconds: float = Field(default=300.0, ge=0, le=86400)
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
    require_approval: bool = True


class ImageMatch(Section):
    """Conditions on images. Every given one must hold; text conditions are shell patterns, without regard to case."""

    modality: list[str] = Field(default_factory=list)
    body_part: list[str] = Field(default_factory=list)
    study_description: list[str] = Field(default_factory=list)
    series_description: list[str] = Field(default_factory=list)
    protocol_name: list[str] = Field(default_factory=list)
    image_type: list[str] = Field(default_factory=list)
    procedure_code: list[str] = Field(default_factory=list)
    station_name: list[str] = Field(default_factory=list)
    manufacturer: list[str] = Field(default_factory=list)
    diffusion: bool | None = None
    b_values: list[float] = Field(default_factory=list)
    plane: list[Literal["axial", "coronal", "sagittal", "oblique"]] = Field(default_factory=list)
    kernel: list[str] = Field(default_factory=list)
    contrast: bool | None = None
    contrast_phase: list[Literal["plain", "arterial", "venous", "delayed"]] = Field(default_factory=list)
    slice_thickness_maximum: float | None = Field(default=None, gt=0, le=1000)
    tag: dict[str, list[str]] = Field(default_factory=dict)
    minimum_instances: int = Field(default=1, ge=1)
    maximum_instances: int | None = Field(default=None, ge=1)

    @field_validator("tag")
    @classmethod
    def _known_tags(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for keyword in value:
            if keyword not in (*TEXT_TAGS, *NUMBER_TAGS):
                known = ", ".join(sorted((*TEXT_TAGS, *NUMBER_TAGS)))
                raise ValueError(f"tag.{keyword}: is not kept of received images; use one of {known}")
        return value


class OrderMatch(Section):
    """Conditions on the order. They hold only where an order was found that agrees with the images."""

    procedure_code: list[str] = Field(default_factory=list)
    procedure_description: list[str] = Field(default_factory=list)
    reason: list[str] = Field(default_factory=list)
    priority: list[Literal["STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW"]] = Field(default_factory=list)
    station_ae_title: list[str] = Field(default_factory=list)
    jj1017_kind: list[str] = Field(default_factory=list)
    jj1017_part: list[str] = Field(default_factory=list)
    jj1017_side: list[str] = Field(default_factory=list)


class RuleMatch(ImageMatch):
    """What a study must be for a rule to fire."""

    calling_ae_title: list[str] = Field(default_factory=list)
    called_ae_title: list[str] = Field(default_factory=list)
    order: OrderMatch | None = None


class RoleSection(Section):
    """A series the rule takes: the first candidate that any series fits; ranked, the best one first."""

    name: Name
    required: bool = True
    candidate: list[ImageMatch] = Field(min_length=1)


class RuleSection(Section):
    """One rule of routing.toml: which studies go to which model and where the answer goes."""

    name: Name
    model: str
    report_model: str | None = None
    contradictions: Literal["block", "flag"] = "block"
    question: Literal["none", "order", "report", "any"] = "none"
    match: RuleMatch = Field(default_factory=RuleMatch)
    role: list[RoleSection] = Field(default_factory=list)
    early: bool = False
    hours: list[str] = Field(default_factory=list)
    sample_percent: float = Field(default=100.0, ge=0, le=100)
    destinations: list[Name] = Field(default_factory=list)
    priority: Literal["stat", "urgent", "routine", "off-peak"] = "routine"
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400)
    shadow: bool = False
    compare_with_prior: bool = True
    parameters: dict[str, str] = Field(default_factory=dict)

    @field_validator("hours")
    @classmethod
    def _spans(cls, value: list[str]) -> list[str]:
        for span in value:
            if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", span):
                raise ValueError(f"hours: '{span}' is no span of time; write it like \"22:00-06:00\"")
        return value

    @model_validator(mode="after")
    def _checked(self) -> Self:
        names = [role.name for role in self.role]
        for twice in {name for name in names if names.count(name) > 1}:
            raise ValueError(f"role.{twice}: two roles have this name; rename one")
        if self.early and not any(role.required for role in self.role):
            raise ValueError("early: needs a required role that names the series to run on; add [[rule.role]]")
        return self
