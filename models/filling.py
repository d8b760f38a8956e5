"""Templates with plain ``{name}`` fields: no attributes, no indices, no format, no code."""

from __future__ import annotations

import re
from collections.abc import Mapping

_FIELD = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def fields_of(template: str) -> frozenset[str]:
    """Names of the fields.

    Raises
    ------
    ValueError
        A brace stands there that belongs to no field.
    """
    if re.search(r"[{}]", _FIELD.sub("", template)):
        raise ValueError("a template has {name} fields only; write no other brace")
    return frozenset(_FIELD.findall(template))


def pieces(template: str) -> list[tuple[bool, str]]:
    """The template in order: (True, name) for a field, (False, words) for what is between."""
    found: list[tuple[bool, str]] = []
    end = 0
    for match in _FIELD.finditer(template):
        found += [(False, template[end : match.start()])] if match.start() > end else []
        found.append((True, match.group(1)))
        end = match.end()
    return found + ([(False, template[end:])] if end < len(template) else [])


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields replaced, once: what is filled in is never read as a template again.

    Raises
    ------
    KeyError
        A field has no value.
    """
    return "".join(values[text] if is_field else text for is_field, text in pieces(template))
