"""What to do after an error, in the language of who reads it: the console, status objects, pictures.

The English stands with the errors themselves; translations lie beside this module, a file each, for the codes of all three
packages.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from models.results import RefusalReason


@cache
def remedies(language: str) -> Mapping[str, str]:
    """Error code → what to do, in a language (RFC 5646); empty for English and for languages there is nothing in."""
    file = Path(__file__).with_name(f"remedies.{language}.toml")
    if not file.is_file():
        return {}
    table: Mapping[str, str] = tomllib.loads(file.read_text(encoding="utf-8"))["remedies"]
    return table


def remedy_in(reason: RefusalReason, language: str) -> str:
    """What to do about a refusal, in a language; as the reason has it where there is no translation."""
    return remedies(language).get(reason.code, reason.remedy)
