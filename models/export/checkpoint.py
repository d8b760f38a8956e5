"""Published checkpoints, read without running anything in them, and held against the layout a converter knows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.export.steps import Kind, say

KEYS_FOLDER = Path(__file__).resolve().parent / "keys"
_SHOWN = 5
_SCALAR = np.dtype(np.float64).type(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]
"""What makes a single NumPy number, besides tensors: training logs that lie beside the weights hold them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Keys of a released checkpoint.

    Attributes
    ----------
    source : str
        ``repository@commit:file`` of every file the layout was read from, separated by spaces.
    shapes : dict
        Key → shape, at the released size.
    """

    source: str
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def load(cls, name: str) -> Layout:
        """Layout ``name``, from ``models/export/keys/NAME.json``."""
        content = json.loads((KEYS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        return cls(content["source"], {key: tuple(shape) for key, shape in content["keys"].items()})

    def save(self, name: str) -> None:
        """Write the layout where :meth:`load` finds it."""
        content = {"source": self.source, "keys": {key: list(shape) for key, shape in self.shapes.items()}}
        (KEYS_FOLDER / f"{name}.json").write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def read_checkpoint(path: Path, *, plain: Sequence[Any] = ()) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` or ``.pth``/``.pt``/``.bin`` file, by key.

    A wrapper (``model``, ``state_dict``, ``network_weights``, ``model_state_dict``, ``net``) and the prefix ``module.`` that
    training leaves are taken off.

    Parameters
    ----------
    plain : sequence of type
        Classes of plain data that may lie beside the tensors; nothing of theirs is looked at.

    Raises
    ------
    CheckpointUnsafe
        The file holds more than tensors (pickled objects, TorchScript): reading it would run code from it.
    CheckpointMismatch
        It cannot be read, or holds no tensors.
    """
    return tensors_in(read_content(path, plain=plain), path.name)


def tensors_in(content: Mapping, name: str) -> dict[str, Tensor]:
    """Tensors of a file's content, without wrapper and prefix. Raises CheckpointMismatch."""
    for wrapper in ("model", "state_dict", "network_weights", "model_state_dict", "net"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {str(key).removeprefix("module."): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointMismatch(f"{name} holds no tensors")
    return tensors


def read_content(path: Path, *, plain: Sequence[Any] = ()) -> Mapping:
    """All that a file holds; see :func:`read_checkpoint`."""
    say(Kind.READ)
    try:
        return _read(path, plain)
    except (OSError, EOFError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be read: {error}") from error


def _read(path: Path, plain: Sequence[Any]) -> Mapping:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointMismatch(f"{path.name} is not a safetensors file: {error}") from error
    try:
        with torch.serialization.safe_globals([*_NUMBERS, *plain]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler's own errors have no common root; none of them ran anything
        raise CheckpointUnsafe(f"{path.name} holds more than tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Mapping):
        raise CheckpointMismatch(f"{path.name} holds a {type(content).__name__}, not tensors by key")
    return content


def load_exactly(
    module: nn.Module, tensors: Mapping[str, Tensor], *, ignored: frozenset[str] = frozenset(), assign: bool = False
) -> None:
    """Load ``tensors`` into ``module``; every key must be there, none may be left over, every shape must fit.

    Parameters
    ----------
    ignored : frozenset of str
        Keys known to be in released files and of no use.
    assign : bool
        Let the module hold these very tensors: for one made on the device ``meta``, so that large weights are in memory
        once.

    Raises
    ------
    CheckpointMismatch
        With the first missing, unexpected and misshapen keys.
    """
    say(Kind.KEYS)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in tensors.items() if key not in ignored}
    problems = []
    for what, keys in (
        ("missing", sorted(wanted.keys() - given.keys())),
        ("unexpected", sorted(given.keys() - wanted.keys())),
        ("of another shape", sorted(key for key in wanted.keys() & given.keys() if wanted[key] != given[key])),
    ):
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            problems.append(f"{what}: {', '.join(keys[:_SHOWN])}{more}")
    if problems:
        raise CheckpointMismatch(f"the checkpoint has another layout; {'; '.join(problems)}", problems=problems)
    module.load_state_dict({key: value for key, value in tensors.items() if key not in ignored}, assign=assign)
