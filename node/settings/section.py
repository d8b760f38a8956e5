"""What every section of the configuration is made of."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from node.toml_file import anchored


def ae_title(value: str) -> str:
    """PS3.5 6.2 VR AE: 1 to 16 characters of the default repertoire, no backslash, no control, not only spaces."""
    stripped = value.strip(" ")
    if not 1 <= len(stripped) <= 16 or "\\" in stripped or not stripped.isascii() or not stripped.isprintable():
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return stripped


def _network(value: str) -> str:
    ipaddress.ip_network(value, strict=False)
    return value


def _beside(value: Path, info: ValidationInfo) -> Path:
    """A relative path counts from the configuration's folder, so that every process of the node agrees."""
    return anchored(value, info.context) if isinstance(info.context, Path) else value


AETitle = Annotated[str, AfterValidator(ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
FilePath = Annotated[Path, AfterValidator(_beside)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
