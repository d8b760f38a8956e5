"""The section about models outside of this node. Off unless asked for; docs/remote.md says what leaves."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from node.settings.section import FilePath, Name, Section
from node.settings.web_service import ClientTlsSection, web_address

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Share = Annotated[float, Field(ge=0, le=1)]


class EndpointSection(Section):
    """What a card's endpoint is on this site: an OpenAI-compatible service and a model there."""

    url: str
    model: str = Field(min_length=1, max_length=200)
    answered_by: list[str] = Field(default_factory=list)
    key_file: FilePath | None = None
    pictures: bool = True
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    deadline_seconds: float = Field(default=120.0, gt=0, le=3600)
    attempts: int = Field(default=3, ge=1, le=10)
    retry_seconds: float = Field(default=2.0, ge=0, le=600)
    concurrency: int = Field(default=1, ge=1, le=64)
    daily_calls: int = Field(default=200, ge=1, le=10_000_000)
    daily_tokens: int = Field(default=500_000, ge=1, le=10_000_000_000)
    maximum_answer_bytes: int = Field(default=1_048_576, ge=1024, le=67_108_864)
    tls: ClientTlsSection | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.url, "url")
        parts = urlsplit(self.url)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("url: the request would travel in the clear; use https")
        if self.tls is not None and parts.scheme != "https":
            raise ValueError("tls: needs a url that begins with https://")
        return self

    @property
    def host(self) -> str:
        """Host of the url, lower case."""
        return (urlsplit(self.url).hostname or "").lower()


class CleanSection(Section):
    """Regions of the pictures of one modality that are blackened before they are looked at for text."""

    modality: str = Field(pattern=r"^[A-Z]{2}$")
    regions: list[tuple[Share, Share, Share, Share]] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for left, top, right, bottom in self.regions:
            if left >= right or top >= bottom:
                raise ValueError("regions: each is [left, top, right, bottom] as shares, left < right, top < bottom")
        return self


class RemoteSection(Section):
    """Models outside of this node."""

    enabled: bool = False
    hosts: list[str] = Field(default_factory=list)
    head: Literal["nothing", "slices", "defaced"] = "slices"
    head_slices: int = Field(default=1, ge=1, le=16)
    endpoint: dict[Name, EndpointSection] = Field(default_factory=dict)
    clean: list[CleanSection] = Field(default_factory=list)

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        hosts = {each.lower() for each in self.hosts}
        for name, endpoint in self.endpoint.items():
            if endpoint.host not in hosts:
                raise ValueError(f"endpoint.{name}.url: its host is not in remote.hosts; add it if it may be called")
        return self
