"""TLS of a listener of this node."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from node.settings.section import FilePath, Section


class ServerTlsSection(Section):
    """The node's own certificate, and which clients it wants to see one of."""

    enabled: bool = False
    certificate: FilePath | None = None
    key: FilePath | None = None
    ca: FilePath | None = None
    require_client_certificate: bool = True
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    handshake_seconds: float = Field(default=10.0, gt=0, le=60)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in ("certificate", "key"):
            if self.enabled and getattr(self, name) is None:
                raise ValueError(f"{name}: is needed where enabled = true; name a PEM file")
        if self.enabled and self.require_client_certificate and self.ca is None:
            raise ValueError("ca: is needed to check client certificates; name a PEM file of trusted authorities")
        return self
