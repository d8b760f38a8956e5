"""Sections about what goes out: destinations and what each of them gets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dicom_sr.profile import ObjectKind, Profile
from node.settings.section import AETitle, FilePath, Name, Port, Section
from node.settings.web_service import ClientTlsSection, OAuthSection, check_web_identity, web_address
from node.settings.window import Window

# Kinds without free text and without pixels that may show a name.
_ANONYMISABLE: tuple[ObjectKind, ...] = ("seg", "measurements", "parametric_map")
# What says by its description what became of a study, and what is named by text_title.
_OWN_WORDS: tuple[ObjectKind, ...] = ("status", "text", "pdf")
SeriesDescription = Annotated[str, Field(min_length=2, max_length=47, pattern=r"(?:^|[^A-Za-z])AI(?:$|[^A-Za-z])")]
"""An LO with room for ``, replaces 03:12``, that says whose result it is."""


class ProfileSection(Section):
    """What one kind of destination gets; the keys are those of :class:`dicom_sr.profile.Profile`."""

    objects: list[ObjectKind] = Field(default_factory=lambda: list(Profile().objects))
    languages: list[Literal["en", "ja"]] = Field(default_factory=list)
    series_number_base: int = Field(default=9000, ge=1, le=2147480000)
    series_descriptions: dict[ObjectKind, SeriesDescription] = Field(default_factory=dict)
    segmentation: Literal["binary", "fractional", "labelmap"] = "binary"
    segmentation_syntax: Literal["explicit", "rle"] = "explicit"
    measurements: Literal["comprehensive_3d", "comprehensive", "enhanced"] = "comprehensive_3d"
    secondary_capture: Literal["multi_frame", "single_frame"] = "multi_frame"
    text_dialect: Literal["sections", "flat"] = "sections"
    text_title: str = Field(default="", max_length=64)
    character_set: Literal["utf-8", "iso-2022-jp"] = "utf-8"
    character_replacements: dict[str, str] = Field(default_factory=dict)
    per_lesion: bool = False
    maximum_series: int = Field(default=2, ge=1, le=100)
    text_documents: Literal["unknown", "shown_as_draft", "become_the_report"] = "unknown"
    superseded: Literal["status", "rejection", "nothing"] = "status"
    anonymous: bool = False
    images: bool = False

    @property
    def kept_back(self) -> list[str]:
        """Kinds asked for that do not go out, because nobody has said that they are only shown."""
        return [] if self.text_documents == "shown_as_draft" else [k for k in self.objects if k in ("text", "pdf")]

    @model_validator(mode="after")
    def _exportable(self) -> Self:
        if self.images and not self.anonymous:
            raise ValueError("images: is for anonymous = true; originals are not this node's to send")
        wrong = sorted(set(self.objects).difference(_ANONYMISABLE))
        if self.anonymous and wrong:
            raise ValueError(
                f"objects: {', '.join(wrong)} cannot be made anonymous; an anonymous profile takes {', '.join(_ANONYMISABLE)}"
            )
        return self

    @model_validator(mode="after")
    def _described(self) -> Self:
        if wrong := sorted(set(self.series_descriptions).intersection(_OWN_WORDS)):
            raise ValueError(
                f"series_descriptions: {', '.join(wrong)}: a status has its own, text and PDF have text_title"
            )
        if bad := sorted(kind for kind, text in self.series_descriptions.items() if "\\" in text):
            raise ValueError(f"series_descriptions: {', '.join(bad)}: a backslash divides values")
        return self

    def as_profile(self, name: str) -> Profile:
        """The same as the object writers take it."""
        return Profile(
            name=name,
            objects=tuple(self.objects),
            series_number_base=self.series_number_base,
            series_descriptions=tuple(sorted(self.series_descriptions.items())),
            segmentation=self.segmentation,
            segmentation_syntax=self.segmentation_syntax,
            measurements=self.measurements,
            secondary_capture=self.secondary_capture,
            text_dialect=self.text_dialect,
            text_title=self.text_title,
            character_set=self.character_set,
            character_replacements=tuple(sorted(self.character_replacements.items())),
            per_lesion=self.per_lesion,
            maximum_series=self.maximum_series,
            text_documents=self.text_documents == "shown_as_draft",
        )


class DestinationTlsSection(ClientTlsSection):
    """TLS towards a destination; the table's presence switches it on."""


class AvailabilitySection(Section):
    """Who is told by Instance Availability Notification (PS3.4 annex R) that results can be retrieved."""

    ae_title: AETitle
    host: str
    port: Port
    tls: DestinationTlsSection | None = None


class DestinationSection(Section):
    """A destination for results: DICOM (``ae_title``, ``host``, ``port``) or DICOMweb (``url``)."""

    ae_title: AETitle = ""
    host: str = ""
    port: Port = 0
    url: str = ""
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
    oauth: OAuthSection | None = None
    availability: AvailabilitySection | None = None

    @model_validator(mode="after")
    def _kind(self) -> Self:
        if self.url:
            if self.host or self.port:
                raise ValueError("url, host: a destination is DICOMweb (url) or DICOM (host, port); name one")
            web_address(self.url, "url")
            check_web_identity(self.url, self.tls, self.username, self.passcode_file, self.oauth)
        elif not (self.ae_title and self.host and self.port):
            raise ValueError("ae_title, host, port: all three are needed, or url for a DICOMweb server")
        elif self.oauth is not None:
            raise ValueError("oauth: is for DICOMweb destinations; DICOM knows username and passcode_file")
        if self.availability is not None and not self.ae_title:
            raise ValueError("availability: needs ae_title, the title under which results are retrieved there")
        return self

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self.url or f"{self.ae_title} at {self.host}:{self.port}"

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
