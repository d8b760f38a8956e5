"""Section about DICOMweb as this node answers it (PS3.18)."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from node.settings.section import AETitle, Network, Section


class DicomWebSection(Section):
    """QIDO-RS, WADO-RS and STOW-RS below ``/dicom-web`` of the console."""

    enabled: bool = True
    store: bool = False
    store_allow: list[Network] = Field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    store_ae_title: AETitle = "STOW-RS"
    maximum_store_requests: int = Field(default=8, ge=1, le=256)
    maximum_results: int = Field(default=500, ge=1, le=10000)
    origins: list[str] = Field(default_factory=list)

    @field_validator("origins")
    @classmethod
    def _plain_origins(cls, value: list[str]) -> list[str]:
        for each in value:
            parts = urlsplit(each)
            if (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or each != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"origins: '{each}' is no origin; write it like \"https://viewer.hospital\"")
        return value
