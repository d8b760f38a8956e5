"""Checks words of the command line against enumerations."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

from node.errors import UsageError

E = TypeVar("E", bound=StrEnum)


def chosen(kind: type[E], words: Sequence[str] | None, option: str) -> list[E] | None:
    """The members that ``words`` name; None when there are no words.

    Raises
    ------
    UsageError
        A word names none.
    """
    known = {member.value: member for member in kind}
    for word in words or ():
        if word not in known:
            raise UsageError(f"{option}: '{word}' is none of {', '.join(known)}")
    return [known[word] for word in words] if words else None
