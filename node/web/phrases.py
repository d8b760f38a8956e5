"""The console's phrases: English as they stand in the pages, other languages from a file each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

LANGUAGES = {"en": "English", "ja": "日本語"}
_FOLDER = Path(__file__).parent / "catalogues"


class Phrases:
    """Catalogue of every language, read once."""

    def __init__(self) -> None:
        self._catalogues: dict[str, Mapping[str, str]] = {}
        for file in sorted(_FOLDER.glob("*.toml")):
            self._catalogues[file.stem] = tomllib.loads(file.read_text(encoding="utf-8"))["phrases"]

    def say(self, language: str, phrase: str, **values: object) -> str:
        """A phrase in a language, with values in the places of ``{name}``; English where there is no translation."""
        text = self._catalogues[language].get(phrase, phrase)
        return text.format(**values) if values else text

    def knows(self, language: str, phrase: str) -> bool:
        """Whether a phrase is translated."""
        return language == "en" or phrase in self._catalogues[language]


def best_language(accepted: str, otherwise: str) -> str:
    """The language of a browser (Accept-Language, RFC 9110 12.5.4) that there is, else ``otherwise``."""
    wanted: list[tuple[float, str]] = []
    for each in accepted.split(","):
        tag, _, quality = each.strip().partition(";q=")
        try:
            wanted.append((float(quality or 1.0), tag.split("-")[0].lower()))
        except ValueError:
            continue
    ranked = sorted(wanted, key=lambda pair: -pair[0])
    return next((tag for quality, tag in ranked if tag in LANGUAGES and quality > 0), otherwise)
