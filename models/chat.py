"""What ``models`` needs from whoever talks to models elsewhere: a port. ``node.remote`` is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TextPart:
    """Words of a request.

    Attributes
    ----------
    free : bool
        Written by somebody about this patient (order, report, question): names and dates are taken out before it leaves.
        Otherwise it is the card's own words and measured figures, in which one such value stops the call.
    """

    text: str
    free: bool = False


@dataclass(frozen=True, slots=True)
class PicturePart:
    """A slice of an input as PNG (8 bit grey, no metadata); where it comes from decides whether it may leave."""

    role: str
    slice_index: int
    png: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a remote model. ``endpoint`` is the name a site has bound to an address and a model."""

    endpoint: str
    system: str
    parts: tuple[TextPart | PicturePart, ...]
    maximum_tokens: int
    temperature: float = 0.0
    seed: int | None = 0


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What came back. ``model`` is the name the service gives the model that answered."""

    text: str
    model: str
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """The image a slice comes from. ``frame`` counts from 1; None for an image of one frame."""

    sop_instance_uid: str
    frame: int | None = None


class Chat(Protocol):
    """Talks to remote models, and lets nothing identifying through."""

    def look_at(self, origins: Mapping[str, Sequence[Origin]]) -> None:
        """Say which images the slices of each input role come from, until it is said anew."""
        ...

    def complete(self, request: ChatRequest) -> ChatAnswer:
        """Ask, and wait for the answer.

        Raises
        ------
        RemoteError
            Nothing was sent, or no usable answer came. Never transient: whoever is behind the port has tried again.
        """
        ...
