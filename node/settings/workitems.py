"""Sections about Unified Procedure Steps: a manager of workitems whose steps this node performs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from node.settings.delivery import DestinationTlsSection
from node.settings.section import AETitle, FilePath, Name, Port, Section
from node.settings.web_service import OAuthSection, SourceSection, check_web_identity, web_address


class WorkitemsSection(Section):
    """Where workitems are searched, claimed and reported: by DIMSE (``ae_title``, ``host``, ``port``) or UPS-RS (``url``)."""

    ae_title: AETitle | None = None
    host: str = ""
    port: Port | None = None
    calling_ae_title: AETitle | None = None
    url: str = ""
    tls: DestinationTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None
    oauth: OAuthSection | None = None
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    interval_seconds: float = Field(default=15.0, ge=1, le=3600)
    jitter_seconds: float = Field(default=3.0, ge=0, le=600)
    station_names: list[str] = Field(default_factory=list)
    unassigned: bool = False
    events: bool = True
    maximum_claimed: int = Field(default=20, ge=1, le=1000)
    archive: Name | None = None
    method: Literal["auto", "move", "get"] = "auto"
    patience_seconds: float = Field(default=1800.0, ge=1, le=7 * 86400)

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        dimse = self.ae_title is not None and bool(self.host) and self.port is not None
        if dimse == bool(self.url):
            raise ValueError("url: name either ae_title, host and port (DIMSE), or url (UPS-RS)")
        if self.url:
            web_address(self.url, "url")
            check_web_identity(self.url, self.tls, self.username, self.passcode_file, self.oauth)
        elif self.oauth is not None:
            raise ValueError("oauth: is for a url; DIMSE knows username and passcode_file")
        if not self.station_names and not self.unassigned:
            raise ValueError("station_names: name the codes this node is scheduled under, or set unassigned = true")
        return self

    @property
    def service(self) -> SourceSection:
        """The web service of a section with ``url``."""
        return SourceSection(
            url=self.url,
            connect_timeout_seconds=self.connect_timeout_seconds,
            response_timeout_seconds=self.response_timeout_seconds,
            tls=self.tls,
            username=self.username,
            passcode_file=Path(self.passcode_file) if self.passcode_file else None,
            oauth=self.oauth,
        )
