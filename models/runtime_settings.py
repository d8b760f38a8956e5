"""How a card wants its graphs to be run: ``[runtime]``, and what of it belongs to the model's identity."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.errors import CardInvalid

TABLE = "runtime"
_HEADER = re.compile(r"\[runtime\]\s*(#.*)?")
_KEY = re.compile(r"(threads|memory_arena|deadline_seconds|providers|device_memory_mib)\s*=")
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_UNASKED = ("cpu", "cuda")


class RuntimeSettings(BaseModel):
    """``[runtime]`` of a card.

    Attributes
    ----------
    threads : int or None
        Threads within one operator, whatever the node's ``jobs.threads``; None: those.
    memory_arena : bool
        Whether ONNX Runtime keeps memory of the CPU for the next run. Without it a run takes longer, and a model with large
        intermediate arrays gives the memory back between runs. On a GPU it is kept until the model is unloaded; without it
        the arena grows by what is asked for, and not by powers of two.
    deadline_seconds : float or None
        Time a run may take; None: the node's ``jobs.deadline_seconds``. A rule's own goes first.
    providers : tuple of str
        What may run it: ``cpu``, ``cuda``, ``tensorrt``; empty: whatever the machine has of the first two. TensorRT builds
        an engine whenever a model host loads the graph, which takes minutes, and answers with other digits: it is used
        where it is named, before the others named with it.
    device_memory_mib : int or None
        Memory of the GPU that all of its graphs take together while they run, MiB. Where less is free, and other models
        that could go do not make it enough, it runs on the CPU. None: its weights, and what it was seen to take.

    Notes
    -----
    ``threads`` and ``providers`` are part of the model's digest: another device, or sums split among another number of
    threads, add in another order and give other last digits, which can move a voxel at a threshold (ONNX Runtime repeats
    its answers for one number of threads only, ``use_deterministic_compute`` or not). Arena and deadline change when an
    answer comes, not what it is, and memory only on which device, which is in the work key: a site may tune them without a
    new approval, and without other UIDs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threads: int | None = Field(default=None, ge=1, le=256)
    memory_arena: bool = True
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400)
    providers: tuple[Literal["cpu", "cuda", "tensorrt"], ...] = ()
    device_memory_mib: int | None = Field(default=None, ge=1, le=4 << 20)

    def allowed(self, providers: tuple[str, ...]) -> tuple[str, ...]:
        """Those execution providers, by ONNX Runtime's names, that the card lets run it, in the same order."""
        names = {_PROVIDERS[each] for each in self.providers or _UNASKED}
        return tuple(each for each in providers if each in names)


@dataclass(frozen=True, slots=True)
class RunsWith:
    """What :class:`RuntimeSettings` come to on one node.

    Attributes
    ----------
    threads : int
        0 leaves it to the runtime.
    deadline_seconds : float or None
        None: the node's limit holds.
    providers : tuple of str
        ONNX Runtime's names, best first; none where the machine has nothing that the card allows.
    """

    threads: int
    memory_arena: bool
    deadline_seconds: float | None
    providers: tuple[str, ...]


def identity_of(card: bytes) -> bytes:
    """The bytes of a card that are its model's identity: all but the lines that change no result.

    A card without ``[runtime]`` is itself. Else the table is cut out, with an empty line before it, and threads and providers
    are put at the end: the rest is byte for byte what it would be without the table.

    Raises
    ------
    CardInvalid
        The settings are not written as a table ``[runtime]`` with one key a line, so that they cannot be told from the rest.
    """
    text = card.decode("utf-8")
    content = tomllib.loads(text)
    if TABLE not in content:
        return card
    rest = _without_table(text)
    if _parsed(rest) != {key: value for key, value in content.items() if key != TABLE}:
        raise CardInvalid("model.toml, runtime: write it as a table [runtime] of its own, with one key on each line")
    stated = [str(content[TABLE]["threads"])] if "threads" in content[TABLE] else []
    stated += sorted(content[TABLE].get("providers", []))
    return (rest + "".join(f"\0{each}" for each in stated)).encode()


def _without_table(text: str) -> str:
    lines = text.splitlines(keepends=True)
    start = next((n for n, line in enumerate(lines) if _HEADER.fullmatch(line.strip())), None)
    if start is None:
        return text
    last = start
    for n in range(start + 1, len(lines)):
        if lines[n].lstrip().startswith("["):
            break
        if _KEY.match(lines[n].lstrip()):
            last = n
    before = start - 1 if start and not lines[start - 1].strip() else start
    return "".join(lines[:before] + lines[last + 1 :])


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None
