"""Sections about watching the node: the monitor, the canary, audit messages, the digest."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from node.settings.delivery import DestinationTlsSection
from node.settings.section import AETitle, FilePath, Name, Port, Section
from node.settings.web_service import ClientTlsSection, web_address

CANARY = "canary"
"""Name of the rule and of the destination that the canary brings along; no other may have it."""


class MonitorSection(Section):
    """Watches the node's own processes, disk and certificates, and raises alarms."""

    channels: list[Name] = Field(default_factory=list)
    silent_seconds: float = Field(default=60.0, ge=2, le=3600)
    repeat_hours: float = Field(default=24.0, gt=0, le=720)
    certificate_days: int = Field(default=21, ge=1, le=365)
    forecast_days: float = Field(default=7.0, gt=0, le=365)
    dead_man_url: str = ""
    dead_man_seconds: float = Field(default=60.0, ge=1, le=86400)
    digest_channels: list[Name] = Field(default_factory=list)
    digest_at: str = "07:00"
    digest_languages: list[Literal["en", "ja"]] = Field(default=["en"], min_length=1)
    late_seconds: float = Field(default=900.0, gt=0, le=7 * 86400)

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told anything."""
        return bool(self.channels or self.digest_channels or self.dead_man_url)

    @field_validator("digest_at")
    @classmethod
    def _clock(cls, value: str) -> str:
        hours, colon, minutes = value.partition(":")
        digits = len(value) == 5 and colon == ":" and hours.isdigit() and minutes.isdigit()
        if not digits or int(hours) > 23 or int(minutes) > 59:
            raise ValueError(f"digest_at: '{value}' is no time of day; write it like \"07:00\"")
        return value

    @field_validator("dead_man_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            web_address(value, "dead_man_url")
        return value


class CanarySection(Section):
    """A phantom study that goes the whole way, again and again."""

    enabled: bool = False
    interval_seconds: float = Field(default=900.0, ge=2, le=86400)
    limit_seconds: float = Field(default=300.0, ge=1, le=7200)
    ae_title: AETitle = "CANARY"
    host: str = "127.0.0.1"
    port: Port = 11119
    model: str = "infarct-adc-baseline"
    tls: DestinationTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        if self.limit_seconds > self.interval_seconds:
            raise ValueError("limit_seconds: must not be longer than interval_seconds, or alarms come too late")
        return self


class AuditSection(Section):
    """Audit messages (PS3.15 A.5) to an audit record repository. Off unless asked for."""

    enabled: bool = False
    host: str = ""
    port: Port = 6514
    transport: Literal["tls", "udp"] = "tls"
    tls: ClientTlsSection | None = None
    site: str = ""
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    retry_seconds: float = Field(default=10.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.enabled and not self.host:
            raise ValueError("host: is needed where enabled = true; name the audit record repository")
        if self.transport == "udp" and self.tls is not None:
            raise ValueError("tls: is for transport = 'tls'")
        return self
