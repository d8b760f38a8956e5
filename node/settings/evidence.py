"""Sections about what is coming: messages about studies, worklists, earlier studies."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from node.settings.section import AETitle, Name, Port, Section


class RequestorSection(Section):
    """A modality that may ask this node for commitment, and where it takes the answer."""

    ae_title: AETitle
    host: str
    port: Port


class EvidenceSection(Section):
    """What modalities and archives may tell this node about a study."""

    performed_steps: bool = True
    notifications: bool = True
    whole_studies: bool = True
    answer_commitment: bool = False
    commitment_archive: Name | None = None
    commitment_wait_seconds: float = Field(default=600.0, gt=0, le=86400)
    requestor: list[RequestorSection] = Field(default_factory=list)

    @model_validator(mode="after")
    def _answerable(self) -> Self:
        if self.answer_commitment and self.commitment_archive is None:
            raise ValueError("commitment_archive: is needed where answer_commitment = true; name a destination")
        if self.answer_commitment and not self.requestor:
            raise ValueError("requestor: is needed where answer_commitment = true; add [[evidence.requestor]]")
        return self

    def answers(self, calling_ae_title: str) -> bool:
        """Whether a commitment request of this title gets an answer."""
        return self.answer_commitment and self.where(calling_ae_title) is not None

    def where(self, calling_ae_title: str) -> RequestorSection | None:
        """Where the answer for a title goes."""
        return next((each for each in self.requestor if each.ae_title == calling_ae_title), None)


class WorklistSection(Section):
    """A modality worklist that is asked what is coming."""

    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle | None = None
    interval_seconds: float = Field(default=45.0, ge=1, le=3600)
    jitter_seconds: float = Field(default=10.0, ge=0, le=600)
    hours_back: float = Field(default=1.0, ge=0, le=168)
    hours_ahead: float = Field(default=12.0, ge=0, le=168)
    modalities: list[str] = Field(default_factory=list)
    station_ae_titles: list[AETitle] = Field(default_factory=list)
    maximum_entries: int = Field(default=500, ge=1, le=10000)
    character_set: Literal["utf-8", "iso-2022-jp", "latin-1", "ascii"] = "utf-8"
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)

    @field_validator("modalities")
    @classmethod
    def _modality_codes(cls, value: list[str]) -> list[str]:
        for each in value:
            if not each.isalnum() or not each.isupper() or len(each) > 16:
                raise ValueError(f"modalities: '{each}' is no modality; write it like \"MR\"")
        return value


class PriorsSection(Section):
    """Earlier studies of the patient, fetched before the images of an order come."""

    archive: Name | None = None
    method: Literal["auto", "move", "get"] = "auto"
    modalities: list[str] = Field(default_factory=list)
    same_modality: bool = True
    same_region: bool = True
    maximum_age_days: float = Field(default=1825.0, gt=0, le=36500)
    maximum_studies: int = Field(default=2, ge=1, le=20)
    maximum_instances: int = Field(default=3000, ge=1, le=100000)
    space_bytes: int = Field(default=20 * 1024**3, ge=0)
    keep_days: float = Field(default=3.0, gt=0, le=365)
