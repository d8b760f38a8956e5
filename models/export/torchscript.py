"""TorchScript archives: what a graph in one may do is read as text before it is loaded, in the process that converts.

An archive (a zip file) holds the graph's source below ``code/`` and its tensors. Its language has no files and no network of its
own but for a few operators; those, and every other that no network needs, are refused by a white list. It is never loaded in
the node.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch, CheckpointUnsafe

LARGEST_SOURCE = 8 << 20
"""Bytes of source below ``code/``, of all its files together."""
_NAMED = re.compile(r"(?<![\w.])(torch|ops)\.([\w.]+)")
_STRINGS = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_OPERATORS = re.compile(
    r"_?conv\w*|\w*_norm|\w*(relu|elu|gelu|silu|sigmoid|softmax|tanh)_?|\w*dropout\w*|upsample_\w+|\w*pool[123]d|pad|_pad_enum"
    # Numbers, shapes and lists, and what the language itself needs for loops and comparisons.
    r"|add_?|sub|rsub|mul_?|div_?|neg|pow|sqrt|rsqrt|exp|mean|var|sum|abs|clamp_?|floor|ceil|mod|remainder|floordiv|eq|ne|lt|gt|le|ge"
    r"|cat|stack|split|chunk|unbind|tensor_split|select|slice|reshape|view|permute|transpose|flatten|squeeze|unsqueeze|expand"
    r"|contiguous|size|dim|len|numel|to|type_as|float|Float|Int|Bool|int|bool|format|append|list|warn|zeros_like|ones_like|is_\w+"
    r"|__range_length|__derive_index|__is__|__isnot__|__not__|__contains__|__getitem__|device|_assert|detach"
)
"""Of ``torch``: what networks of convolutions are written with. None of them knows files, sockets or libraries."""
_OTHERS = re.compile(
    r"prim\.(NumToTensor|data|device|dtype|unchecked_cast|unchecked_unwrap_optional|RaiseException|min|max|abs)"
)


def load_torchscript(path: Path) -> nn.Module:
    """The module of an archive, on the CPU, in evaluation mode.

    Raises
    ------
    CheckpointUnsafe
        Its source names an operator that no network of convolutions needs.
    CheckpointMismatch
        It is no TorchScript archive, or cannot be loaded.
    """
    _require_harmless(path)
    try:
        module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise CheckpointMismatch(f"{path.name} cannot be loaded: {str(error).strip().splitlines()[0][:200]}") from error
    return module.eval().float()


def shapes_of(module: nn.Module) -> Mapping[str, tuple[int, ...]]:
    """Shape of every parameter and buffer by key."""
    state: Mapping[str, Tensor] = module.state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def _require_harmless(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            sources = [
                each for each in archive.infolist() if "/code/" in each.filename and each.filename.endswith(".py")
            ]
            if not sources:
                raise CheckpointMismatch(f"{path.name} holds no TorchScript")
            if sum(each.file_size for each in sources) > LARGEST_SOURCE:
                raise CheckpointUnsafe(f"{path.name} holds more source than a network needs")
            text = "\n".join(archive.read(each).decode("utf-8") for each in sources)
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
        raise CheckpointMismatch(f"{path.name} is no TorchScript archive: {error}") from error
    named = {match.groups() for match in _NAMED.finditer(_STRINGS.sub('""', text))}
    unknown = sorted(f"{space}.{name}" for space, name in named if not _is_known(space, name))
    if unknown:
        raise CheckpointUnsafe(f"{path.name} uses {', '.join(unknown[:5])}; a network of convolutions does not")


def _is_known(space: str, name: str) -> bool:
    return (_OPERATORS if space == "torch" else _OTHERS).fullmatch(name) is not None
