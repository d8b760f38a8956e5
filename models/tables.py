"""Folders that hold one TOML file for each thing of a kind."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from models.errors import CardInvalid

Kind = TypeVar("Kind", bound=BaseModel)


def tables_in(folder: Path, kind: type[Kind]) -> dict[str, Kind]:
    """Every ``NAME.toml`` of ``folder`` by name, in order.

    Raises
    ------
    CardInvalid
        One of them is not valid; the message names the file.
    """
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            found[path.stem] = kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, ValidationError) as error:
            raise CardInvalid(f"{path.name}: {error}") from error
    return found
