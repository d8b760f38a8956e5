"""A released model's folder: configuration, weights in one file or several, vocabulary. Nothing in it is ever run.

Code that lies beside the weights (``auto_map``, ``*.py``) is not looked at: architectures are this package's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from models.errors import CheckpointMismatch
from models.export.checkpoint import read_checkpoint

_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class ReleasedFolder:
    """One folder as its publisher wrote it.

    Parameters
    ----------
    checkpoint : Path
        The folder, or a file in it.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.path = checkpoint if checkpoint.is_dir() else checkpoint.parent

    @cached_property
    def config(self) -> dict[str, Any]:
        """``config.json``.

        Raises
        ------
        CheckpointMismatch
            There is none.
        """
        return self.json("config.json")

    def json(self, name: str, *, required: bool = True) -> dict[str, Any]:
        """A JSON file of the folder; empty where it is missing and not required.

        Raises
        ------
        CheckpointMismatch
            It is missing or no JSON.
        """
        path = self.path / name
        if not required and not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointMismatch(f"{name} cannot be read: {error}") from error
        return content if isinstance(content, dict) else {}

    @cached_property
    def weights(self) -> Path:
        """The file of the weights, or the index of their files.

        Raises
        ------
        CheckpointMismatch
            There is neither.
        """
        for name in (*_SINGLE, *_INDEXES):
            if (self.path / name).is_file():
                return self.path / name
        raise CheckpointMismatch(f"the folder has none of {', '.join((*_SINGLE, *_INDEXES))}")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by key, in float32. Raises as :func:`models.export.checkpoint.read_checkpoint`."""
        if self.weights.name in _SINGLE:
            files = [self.weights]
        else:
            names = set(self.json(self.weights.name).get("weight_map", {}).values())
            if any(Path(name).name != name for name in names):
                raise CheckpointMismatch(f"{self.weights.name} names a file outside of the folder")
            files = [self.path / name for name in sorted(names)]
        merged: dict[str, Tensor] = {}
        for file in files:
            merged.update(read_checkpoint(file))
        return {key: value.float() if value.dtype.is_floating_point else value for key, value in merged.items()}

    def tokenizer(self) -> Tokenizer:
        """The vocabulary of ``tokenizer.json``.

        Raises
        ------
        CheckpointMismatch
            There is none that can be read.
        """
        path = self.path / "tokenizer.json"
        if not path.is_file():
            raise CheckpointMismatch(
                "the folder has no tokenizer.json; write one with transformers: "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:
            raise CheckpointMismatch(f"tokenizer.json cannot be read: {error}") from error


def sizes(config: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Entries of a configuration.

    Raises
    ------
    CheckpointMismatch
        One is missing.
    """
    missing = [name for name in names if name not in config]
    if missing:
        raise CheckpointMismatch(f"config.json does not state {', '.join(missing)}")
    return {name: config[name] for name in names}


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors below ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def require_all_used(tensors: Mapping[str, Tensor], prefixes: Iterable[str]) -> None:
    """Every key must stand below one of ``prefixes``.

    Raises
    ------
    CheckpointMismatch
        Keys are left over.
    """
    known = tuple(prefixes)
    left = sorted(key for key in tensors if not key.startswith(known))
    if left:
        raise CheckpointMismatch(
            f"the checkpoint has another layout; unexpected: {', '.join(left[:5])}", problems=left[:20]
        )
