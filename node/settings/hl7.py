"""The section about HL7 v2 messages that others send to this node."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from node.settings.section import Network, Port, Section
from node.settings.server_tls import ServerTlsSection

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Hl7InboundSection(Section):
    """A listener for HL7 v2 over MLLP. Off unless asked for."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 2575
    allow: list[Network] = Field(default_factory=list)
    tls: ServerTlsSection = Field(default_factory=ServerTlsSection)
    maximum_connections: int = Field(default=16, ge=1, le=1024)
    maximum_message_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    message_seconds: float = Field(default=30.0, gt=0, le=600)
    idle_seconds: float = Field(default=3600.0, gt=0, le=86400)
    character_set: str = "ASCII"
    accession_fields: list[str] = Field(default_factory=lambda: ["IPC-1", "OBR-18", "OBR-3"])
    late_results: Literal["mark", "withhold"] = "mark"
    keep_days: float = Field(default=90.0, gt=0, le=3660)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.enabled and self.host not in _LOOPBACK and not self.allow:
            raise ValueError("allow: is needed where host is not loopback; name the addresses of the RIS")
        for field in self.accession_fields:
            segment, _, number = field.partition("-")
            if len(segment) != 3 or not segment.isalnum() or not number.isdigit():
                raise ValueError(f"accession_fields: '{field}' is no field; write it like \"OBR-18\"")
        return self
