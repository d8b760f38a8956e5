"""Checkpoints that a training framework wrote: its settings lie beside the weights as pickled objects, which nobody needs.

The file is read as every other (:mod:`models.export.checkpoint`): nothing of it is imported or called. Where it names a
class of a package that training used, an empty class of that name stands in, so that numbers and texts among the settings
can be read; a file that names anything else is refused.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.export.checkpoint import read_content, tensors_in

_SHOWN = 3


class _StandIn:
    """Takes whatever is put into it and keeps none of it."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a file holds.

    Attributes
    ----------
    tensors : dict
        By key.
    settings : mapping
        ``hyper_parameters`` as PyTorch Lightning keeps them, with classes that stand in; empty: there are none.
    """

    tensors: dict[str, Tensor]
    settings: Mapping[str, Any]


def read_training_state(path: Path, packages: Collection[str]) -> TrainingState:
    """Tensors and settings of ``path``.

    Parameters
    ----------
    packages : collection of str
        Packages whose classes the file may name.

    Raises
    ------
    CheckpointUnsafe
        It names what is of no such package.
    CheckpointMismatch
        It cannot be read, or holds no tensors.
    """
    content = read_content(path, plain=_standing_in(path, packages) if zipfile.is_zipfile(path) else ())
    settings = content.get("hyper_parameters")
    return TrainingState(tensors_in(content, path.name), settings if isinstance(settings, Mapping) else {})


def _standing_in(path: Path, packages: Collection[str]) -> list[tuple[type, str]]:
    """A class for each name in the file."""
    try:
        named = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    if strange := [name for name in named if name.partition(".")[0] not in packages]:
        raise CheckpointUnsafe(f"{path.name} holds more than tensors and settings: {', '.join(strange[:_SHOWN])}")
    return [(type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in named]
