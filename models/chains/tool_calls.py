"""The calls a language model may make: ``<NAME(argument)>`` as VILA-M3 writes them, by white list alone.

The grammar is a name in capitals and, for a model, one of the arguments the card lists; for a calculator ``key=number unit``
pairs. Whatever else stands between such brackets is no call: it is taken out of the text and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.chains.declaration import Tool

_BRACKETED = re.compile(r"<[^<>\n]{0,300}>")
_CALL = re.compile(r"^<([A-Z][A-Z0-9_]{0,31})\(([^()<>]{0,200})\)>$")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that may be made."""

    name: str
    argument: str


def calls_in(text: str, tools: Mapping[str, Tool]) -> tuple[list[ToolCall], int]:
    """Calls that a text makes and may make, each once, and how many it may not.

    Parameters
    ----------
    text : str
        What a language model wrote; never what a person wrote.
    """
    allowed: dict[ToolCall, None] = {}
    refused = 0
    for match in _BRACKETED.finditer(text):
        call = _CALL.match(match.group())
        tool = tools.get(call.group(1)) if call else None
        if call is None or tool is None:
            refused += 1
            continue
        argument = call.group(2).strip()
        if tool.calculator is None and argument not in (tool.arguments or ("",)):
            refused += 1
            continue
        allowed[ToolCall(call.group(1), argument)] = None
    return list(allowed), refused


def without_calls(text: str) -> str:
    """The text without anything in such brackets."""
    return re.sub(r"[ \t]{2,}", " ", _BRACKETED.sub("", text)).strip()
