"""Attribute matching of searches (PS3.18 8.3.4, PS3.4 C.2.2.2) on values in the JSON model. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any

from node.web.dicomweb.failures import BAD_REQUEST, refuse, required_uid

# PS3.4 C.2.2.2.4: wildcards apply to these representations only.
_WILD = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_FORMS = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
}
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Condition:
    """One matching key with a value.

    Attributes
    ----------
    path : tuple of str
        Tags: the attribute, behind those of the sequences it stands in.
    vr : str
    text : str
        The value as asked for.
    """

    path: tuple[str, ...]
    vr: str
    text: str

    @property
    def tag(self) -> str:
        """The attribute itself."""
        return self.path[-1]

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a list of UIDs; else the one value."""
        return tuple(re.split(r"[,\\]", self.text)) if self.vr == "UI" else (self.text,)

    @property
    def has_wildcard(self) -> bool:
        """Whether ``*`` or ``?`` in the value stand for others."""
        return self.vr in _WILD and ("*" in self.text or "?" in self.text)

    @property
    def limits(self) -> tuple[str, str]:
        """First and last value of a range, empty where open; of a single value both are it."""
        first, dash, last = self.text.partition("-")
        return (first, last) if dash else (first, first)

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Whether a data set fits."""
        level = [attributes]
        for tag in self.path[:-1]:
            level = [item for each in level for item in each.get(tag, {}).get("Value", []) if isinstance(item, dict)]
        return any(self._fits(each.get(self.tag, {}).get("Value", [])) for each in level)

    def _fits(self, values: list[Any]) -> bool:
        texts = [text for value in values for text in _texts(value)]
        if self.vr == "UI":
            return bool(set(self.choices) & set(texts))
        if self.vr in _FORMS:
            return any(self._within(text) for text in texts)
        if self.has_wildcard:
            # fnmatch knows brackets as well, DICOM does not.
            flags = re.IGNORECASE | re.DOTALL if self.vr == "PN" else re.DOTALL
            pattern = re.compile(translate(self.text.replace("[", "[[]")), flags)
            return any(pattern.match(text) for text in texts)
        if self.vr == "PN":
            return any(text.casefold() == self.text.casefold() for text in texts)
        return self.text in texts

    def _within(self, text: str) -> bool:
        first, last = self.limits
        if self.vr == "TM":
            return (not first or _second(text) >= _second(first)) and (
                not last or _second(text) <= _second(last, last=True)
            )
        return (not first or text >= first) and (not last or text <= last)


def condition(path: tuple[str, ...], vr: str, text: str, name: str) -> Condition | None:
    """A matching key, checked; None for universal matching (no value, or ``*`` alone).

    Raises
    ------
    HTTPException
        400: the value has not the form its attribute needs.
    """
    text = text.strip()
    if not text or (vr in _WILD and text == "*"):
        return None
    if len(text) > _LONGEST and vr != "UI":
        refuse(BAD_REQUEST, f"{name}: the value is longer than {_LONGEST} characters")
    found = Condition(path, vr, text)
    if vr == "UI":
        for uid in found.choices:
            required_uid(uid, name)
    if vr in _FORMS:
        first, last = found.limits
        for part in (first, last):
            if part and not _FORMS[vr].fullmatch(part):
                refuse(BAD_REQUEST, f"{name}: write a value, or a range first-last, of VR {vr} (PS3.5 6.2)")
        if not first and not last:
            refuse(BAD_REQUEST, f"{name}: the range has neither beginning nor end")
    return found


def _texts(value: Any) -> list[str]:
    """A value as text; of a person name each component group, and all of them together."""
    if isinstance(value, dict):
        groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return [*(group for group in groups if group), "=".join(groups).rstrip("=")]
    return [] if value is None else [str(value)]


def _second(text: str, *, last: bool = False) -> str:
    """A time of day with microseconds; of a shortened one the first or the last moment it names (PS3.5 6.2 TM)."""
    digits = text.replace(":", "").strip()
    whole, _, fraction = digits.partition(".")
    if len(whole) >= 6:
        return f"{whole[:6]}.{fraction.ljust(6, '9' if last and not fraction else '0')}"
    filling = "595959" if last else "000000"
    return f"{whole}{filling[len(whole) :]}.{'999999' if last else '000000'}"
