"""Values in the DICOM JSON model (PS3.18 annex F), as answers of DICOMweb services carry them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.errors import WebAnswerUnusable

Attributes = Mapping[str, Any]


def as_datasets(content: Any) -> list[Attributes]:
    """An answer as a list of data sets.

    Raises
    ------
    WebAnswerUnusable
        It is none.
    """
    found = content if isinstance(content, list) else [content]
    if not all(isinstance(each, dict) for each in found):
        raise WebAnswerUnusable("the answer is not DICOM JSON (PS3.18 annex F)")
    return found


def text(dataset: Attributes, tag: str) -> str:
    """First value of an attribute as text; empty where there is none.

    Parameters
    ----------
    tag : str
        Eight hexadecimal digits, upper case.
    """
    values = _values(dataset, tag)
    return str(values[0]).strip() if values and values[0] is not None else ""


def number(dataset: Attributes, tag: str) -> int | None:
    """First value of an attribute as a whole number; None where there is none."""
    try:
        return int(text(dataset, tag))
    except ValueError:
        return None


def items(dataset: Attributes, tag: str) -> list[Attributes]:
    """Items of a sequence; none where it is absent."""
    return [item for item in _values(dataset, tag) if isinstance(item, dict)]


def _values(dataset: Attributes, tag: str) -> list[Any]:
    element = dataset.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
