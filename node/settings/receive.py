"""Sections about what comes in: the DICOM listeners and who may use them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from node.settings.section import AETitle, FilePath, Network, Port, Section, ae_title
from node.settings.server_tls import ServerTlsSection

PeerService = Literal["images", "performed_steps", "notifications", "commitment", "workitems"]


class PeerRule(Section):
    """Who may open an association: AE title (``*`` for any) from an address or network, with a certificate if named.

    And what for: ``services`` empty is everything. C-ECHO is always answered.
    """

    ae_title: str = "*"
    address: Network = "127.0.0.0/8"
    called_ae_titles: list[AETitle] = Field(default_factory=list)
    certificate: str = ""
    services: list[PeerService] = Field(default_factory=list)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.ae_title != "*":
            ae_title(self.ae_title)
        return self


class ReceiveTlsSection(ServerTlsSection):
    """The listener that speaks TLS, on a port of its own."""

    port: Port = 2762


class ReceiveSection(Section):
    """The C-STORE and C-ECHO listener."""

    plain: bool = True
    host: str = "127.0.0.1"
    port: Port = 11112
    tls: ReceiveTlsSection = Field(default_factory=ReceiveTlsSection)
    users: FilePath | None = None
    require_user_identity: bool = False
    rate_per_minute: int = Field(default=0, ge=0, le=1000000)
    rate_per_minute_of_address: int = Field(default=0, ge=0, le=1000000)
    called_ae_titles: list[AETitle] = Field(default_factory=list)
    allow: list[PeerRule] = Field(default_factory=lambda: [PeerRule(), PeerRule(address="::1/128")])
    mode: Literal["instance", "association"] = "instance"
    processes: int = Field(default=1, ge=1, le=64)
    maximum_associations: int = Field(default=64, ge=1, le=1000)
    maximum_pdu_bytes: int = Field(default=262144, ge=4096, le=8388608)
    maximum_object_bytes: int = Field(default=4 * 1024**3, ge=1024)
    maximum_object_seconds: float = Field(default=3600.0, gt=0, le=86400)
    maximum_association_seconds: float = Field(default=43200.0, gt=0, le=604800)
    lane: Literal["auto", "stock"] = "auto"
    idle_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    disk_reserve_bytes: int = Field(default=2 * 1024**3, ge=0)

    @model_validator(mode="after")
    def _listens(self) -> Self:
        if not self.plain and not self.tls.enabled:
            raise ValueError("plain: the node would not listen at all; set plain = true, or enabled in [receive.tls]")
        if self.plain and self.tls.enabled and self.port == self.tls.port:
            raise ValueError("tls.port: TLS needs a port of its own; choose another, or set receive.plain = false")
        if self.require_user_identity and self.users is None:
            raise ValueError("users: is needed where require_user_identity = true; name the file of users")
        for rule in self.allow:
            if rule.certificate and not (self.tls.enabled and self.tls.ca):
                raise ValueError(
                    "allow.certificate: needs [receive.tls] with enabled = true and ca; nobody could match"
                )
        return self
