"""Sections about web services this node calls: how it shows who it is."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from node.settings.section import FilePath, Section

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class ClientTlsSection(Section):
    """TLS towards a peer; the table's presence switches it on."""

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


class OAuthSection(Section):
    """OAuth 2.0 client credentials (RFC 6749 4.4)."""

    token_url: str
    client_id: str = Field(min_length=1)
    client_secret_file: FilePath
    scope: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.token_url, "token_url")
        parts = urlsplit(self.token_url)
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError("token_url: the secret would travel in the clear; use https")
        return self


class SourceSection(Section):
    """A DICOMweb server that images are fetched from (QIDO-RS, WADO-RS)."""

    url: str
    connect_timeout_seconds: float = Field(default=10.0, gt=0, le=600)
    response_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    tls: ClientTlsSection | None = None
    username: str = ""
    passcode_file: FilePath | None = None
    oauth: OAuthSection | None = None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        web_address(self.url, "url")
        check_web_identity(self.url, self.tls, self.username, self.passcode_file, self.oauth)
        return self


def web_address(value: str, key: str) -> None:
    """Refuse what is no http or https address, and one that holds a password.

    Raises
    ------
    ValueError
        Naming the key.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{key}: is not an address like https://pacs.hospital/dicom-web")
    if parts.username or parts.password:
        raise ValueError(f"{key}: holds a user name; use username and passcode_file instead")
    if parts.query or parts.fragment:
        raise ValueError(f"{key}: must end before any '?' or '#'")


def check_web_identity(
    url: str, tls: ClientTlsSection | None, username: str, passcode_file: object, oauth: OAuthSection | None
) -> None:
    """Refuse identities that contradict each other, or that would be lost on the way.

    Raises
    ------
    ValueError
        Naming the key.
    """
    if tls is not None and urlsplit(url).scheme != "https":
        raise ValueError("tls: needs a url that begins with https://")
    if tls is not None and tls.server_name:
        raise ValueError("tls.server_name: a web service is known by the name in its url; leave it out")
    if passcode_file is not None and not username:
        raise ValueError("passcode_file: needs a username beside it")
    if username and passcode_file is None:
        raise ValueError("username: a web service needs passcode_file beside it")
    parts = urlsplit(url)
    if (username or oauth is not None) and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("url: passcode or token would travel in the clear; use https")
    if oauth is not None and username:
        raise ValueError("oauth, username: name one way to show who we are")
