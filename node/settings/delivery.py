"""Sections about what goes out: destinations and what each of them gets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from dicom_sr.profile import ObjectKind, Profile
from node.settings.section import AETitle, FilePath, Name, Port, Section
from node.settings.window import Window


class ProfileSection(Section):
    """What one kind of destination gets; the keys are those of :class:`dicom_sr.profile.Profile`."""

    objects: list[ObjectKind] = Field(default_factory=lambda: list(Profile().objects))
    languages: list[Literal["en", "ja"]] = Field(default_factory=list)
    series_number_base: int = Field(default=9000, ge=1, le=2147480000)
    segmentation: Literal["binary", "fractional", "labelmap"] = "binary"
    segmentation_syntax: Literal["explicit", "rle"] = "explicit"
    measurements: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    text_dialect: Literal["sections", "flat"] = "sections"
    text_title: str = Field(default="", max_length=64)
    character_set: Literal["utf-8", "iso-2022-jp"] = "utf-8"
    character_replacements: dict[str, str] = Field(default_factory=dict)
    per_lesion: bool = False
    maximum_series: int = Field(default=8, ge=1, le=100)
    superseded: Literal["status", "rejection", "nothing"] = "status"

    def as_profile(self, name: str) -> Profile:
        """The same as the object writers take it."""
        return Profile(
            name=name,
            objects=tuple(self.objects),
            series_number_base=self.series_number_base,
            segmentation=self.segmentation,
            segmentation_syntax=self.segmentation_syntax,
            measurements=self.measurements,
            text_dialect=self.text_dialect,
            text_title=self.text_title,
            character_set=self.character_set,
            character_replacements=tuple(sorted(self.character_replacements.items())),
            per_lesion=self.per_lesion,
            maximum_series=self.maximum_series,
        )


class DestinationTlsSection(Section):
    """TLS towards a destination; the table's presence switches it on."""

    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    server_name: str = ""
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate, key: name both, or neither")
        return self


class DestinationSection(Section):
    """A DICOM destination for results."""

    ae_title: AETitle
    host: str
    port: Port
    calling_ae_title: AETitle | None = None
    profile: Name = "default"
    commitment: bool = True
    commitment_timeout_seconds: float = Field(default=300.0, gt=0)
    commitment_attempts: int = Field(default=3, ge=1, le=1000)
    verify: bool = True
    associations: int = Field(default=1, ge=1, le=16)
    downtime: list[Window] = Field(default_factory=list)
    catch_up_per_minute: int = Field(default=0, ge=0, le=100000)
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    retry_seconds: float = Field(default=5.0, gt=0, le=86400)
    retry_ceiling_seconds: float = Field(default=600.0, gt=0, le=86400)
    maximum_attempts: int = Field(default=50, ge=1)
    tls: DestinationTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None

    @model_validator(mode="after")
    def _identity(self) -> Self:
        if self.passcode_file is not None and not self.username:
            raise ValueError("passcode_file: needs a username beside it")
        return self


class DeliverySection(Section):
    """The sender process."""

    breaker_failures: int = Field(default=5, ge=1)
    breaker_seconds: float = Field(default=30.0, gt=0)
    keep_days: float = Field(default=30.0, ge=0, le=36500)
