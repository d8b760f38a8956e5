"""Sections about telling people and systems: channels (node.toml) and the rules of who is told (routing.toml)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from node.settings.section import FilePath, Name, Port, Section
from node.settings.web_service import ClientTlsSection, OAuthSection, check_web_identity, web_address

IdentityLevel = Literal["none", "study", "patient"]


class _ChannelSection(Section):
    """What every channel has."""

    identity: IdentityLevel = "none"
    updates: bool = True
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    retry_seconds: float = Field(default=5.0, gt=0, le=86400)
    retry_ceiling_seconds: float = Field(default=300.0, gt=0, le=86400)
    maximum_attempts: int = Field(default=20, ge=1)


class WebhookSection(_ChannelSection):
    """A web service that is told by a signed JSON message."""

    kind: Literal["webhook"]
    url: str
    secret_file: FilePath
    tls: ClientTlsSection | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.url, "url")
        check_web_identity(self.url, self.tls, "", None, None)
        return self


class EmailSection(_ChannelSection):
    """People who are told by e-mail."""

    kind: Literal["email"]
    updates: bool = False
    host: str
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    tls: ClientTlsSection | None = None
    sender: str
    recipients: list[str] = Field(min_length=1)
    username: str = ""
    passcode_file: FilePath | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for address in (self.sender, *self.recipients):
            if (
                address.count("@") != 1
                or not address.isascii()
                or any(each.isspace() or each in ",;<>" for each in address)
            ):
                raise ValueError(f"sender, recipients: '{address}' is not an address like stroke@hospital.org")
        if bool(self.username) != (self.passcode_file is not None):
            raise ValueError("username, passcode_file: name both, or neither")
        if self.security == "none" and (self.username or self.tls is not None):
            raise ValueError("security: 'none' would send the passcode in the clear; choose 'starttls' or 'tls'")
        return self


class Hl7Section(_ChannelSection):
    """An HL7 v2.5.1 receiver that is told by ORU^R01 over MLLP."""

    kind: Literal["hl7"]
    host: str
    port: Port = 2575
    tls: ClientTlsSection | None = None
    sending_application: str = Field(default="AINODE", max_length=180)
    sending_facility: str = Field(default="", max_length=180)
    receiving_application: str = Field(default="", max_length=180)
    receiving_facility: str = Field(default="", max_length=180)
    assigning_authority: str = Field(default="", max_length=180)
    processing_id: Literal["P", "T", "D"] = "P"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.identity != "patient":
            raise ValueError("identity: a result message without a patient is filed nowhere; set identity = 'patient'")
        return self


class FhirSection(_ChannelSection):
    """A FHIR R4 server that is given a DiagnosticReport with its Observations."""

    kind: Literal["fhir"]
    url: str
    tls: ClientTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None
    oauth: OAuthSection | None = None
    patient_system: str = ""
    accession_system: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.url, "url")
        check_web_identity(self.url, self.tls, self.username, self.passcode_file, self.oauth)
        return self


ChannelSection = Annotated[WebhookSection | EmailSection | Hl7Section | FhirSection, Field(discriminator="kind")]


class NotificationsSection(Section):
    """What all channels share."""

    public_url: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.public_url:
            web_address(self.public_url, "public_url")
        return self


class NotifyWhen(Section):
    """Every given condition must hold. Lists hold alternatives; text conditions are shell patterns, case does not matter."""

    rule: list[str] = Field(default_factory=list)
    model: list[str] = Field(default_factory=list)
    priority: list[Literal["stat", "urgent", "routine", "off-peak"]] = Field(default_factory=list)
    outcome: list[Literal["found", "nothing_found", "not_assessed"]] = Field(default_factory=list)
    volume_ml_over: float | None = Field(default=None, ge=0)
    volume_ml_under: float | None = Field(default=None, gt=0)
    side: list[Literal["left", "right", "bilateral", "midline"]] = Field(default_factory=list)
    finding: list[str] = Field(default_factory=list)
    probability_over: float | None = Field(default=None, ge=0, le=1)
    refusal: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _states_something(self) -> Self:
        if not any(getattr(self, key) not in (None, []) for key in type(self).model_fields):
            raise ValueError("names no condition: everything would be told; name at least one, as outcome = ['found']")
        both = (self.volume_ml_over, self.volume_ml_under)
        if both[0] is not None and both[1] is not None and both[0] >= both[1]:
            raise ValueError("volume_ml_over, volume_ml_under: no volume lies between them")
        return self


class EscalationSection(Section):
    """Who is told next where nobody has acknowledged."""

    after_seconds: float = Field(gt=0, le=7 * 86400)
    channels: list[Name] = Field(min_length=1)


class NotifySection(Section):
    """One rule of who is told about which results."""

    name: Name
    when: NotifyWhen
    channels: list[Name] = Field(default_factory=list)
    destinations: list[Name] = Field(default_factory=list)
    priority: Literal["stat", "urgent", "routine", "off-peak"] | None = None
    escalate: list[EscalationSection] = Field(default_factory=list)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.channels or self.destinations or self.priority):
            raise ValueError("does nothing; name channels, destinations or a priority")
        if self.escalate and not self.channels:
            raise ValueError("escalate: needs channels to begin with")
        return self
