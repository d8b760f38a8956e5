"""Sections about the console: where it listens, who may use it and how long."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from node.settings.section import FilePath, Port, Section
from node.settings.web_service import web_address

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class WebTlsSection(Section):
    """The console's certificate; the table's presence switches TLS on."""

    certificate: FilePath
    key: FilePath


class OidcSection(Section):
    """Hospital sign-on by OpenID Connect: authorization code with PKCE. The table's presence switches it on."""

    issuer: str
    client_id: str = Field(min_length=1)
    client_secret_file: FilePath | None = None
    label: str = "Hospital sign-on"
    scopes: list[str] = Field(default_factory=lambda: ["openid", "profile"])
    name_claim: str = Field(default="preferred_username", min_length=1)
    role_claim: str = Field(default="groups", min_length=1)
    viewer: list[str] = Field(default_factory=list)
    operator: list[str] = Field(default_factory=list)
    administrator: list[str] = Field(default_factory=list)
    ca: FilePath | None = None
    timeout_seconds: float = Field(default=10.0, gt=0, le=120)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.issuer, "issuer")
        parts = urlsplit(self.issuer)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("issuer: tokens would travel in the clear; use https")
        if "openid" not in self.scopes:
            raise ValueError("scopes: 'openid' must be among them")
        if not (self.viewer or self.operator or self.administrator):
            raise ValueError(f"viewer, operator, administrator: say which values of '{self.role_claim}' give a role")
        return self


class WebSection(Section):
    """The console. Off unless asked for."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 8042
    public_url: str = ""
    language: Literal["", "en", "ja"] = ""
    session_idle_minutes: float = Field(default=30.0, gt=0, le=1440)
    session_hours: float = Field(default=12.0, gt=0, le=168)
    metrics_need_token: bool = False
    tls: WebTlsSection | None = None
    oidc: OidcSection | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.host not in LOOPBACK and self.tls is None:
            raise ValueError(
                "web.host: passcodes would travel in the clear; add [web.tls], or keep the console on 127.0.0.1 behind a "
                "proxy that has TLS"
            )
        if self.public_url:
            web_address(self.public_url, "web.public_url")
        if self.oidc is not None and not self.public_url:
            raise ValueError("web.oidc: needs web.public_url, where the hospital's sign-on sends people back to")
        return self

    @property
    def secure(self) -> bool:
        """Whether browsers reach the console by https, so that its cookie may be marked Secure."""
        return self.tls is not None or self.public_url.startswith("https://")

    @property
    def address(self) -> str:
        """Where browsers find it."""
        scheme = "https" if self.tls is not None else "http"
        return self.public_url or f"{scheme}://{self.host}:{self.port}"
