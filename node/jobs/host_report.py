"""How the model hosts that run are shut in, as their dispatchers tell it with their pulse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from node.confinement.shut_in import Confinement
from node.pulse import beats


def model_hosts(data_dir: Path) -> list[dict[str, Any]]:
    """One entry a dispatcher whose host has said it: ``process, holds, gaps, words``."""
    found = []
    for beat in beats(data_dir):
        try:
            told = Confinement.model_validate(beat.facts["confinement"])
        except (KeyError, ValidationError):
            continue  # another kind of process, or its host has not started yet
        found.append({"process": beat.process, **told.model_dump(), "words": told.words})
    return found
