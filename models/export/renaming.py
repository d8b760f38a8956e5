"""One network definition for several published layouts: what each parameter is called there, and how it lies.

A layout is a list of rules from our names to the published ones, tried from the first to the last. In the published name

* ``{q_proj,k_proj,v_proj}`` stands for as many tensors, of which ours is made by putting them one after the other;
  ``{q:1,kv:2}`` for tensors of one and two thirds;
* ``^T`` at the end says that ours is transposed there, ``^1`` that our leading axes of length one are not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly

_PARTS = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one of our tensors lies in a published file."""

    keys: tuple[str, ...]
    shares: tuple[int, ...]
    transposed: bool
    flat: bool


@dataclass(frozen=True, slots=True)
class Renaming:
    """A published layout.

    Attributes
    ----------
    rules : tuple of (str, str)
        Regular expression over our whole key → published name, with groups as ``\\1``. The first that fits is taken.
    """

    rules: tuple[tuple[str, str], ...]

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Published key → shape of every tensor of ``module``; works on meta tensors."""
        found: dict[str, tuple[int, ...]] = {}
        for key, value in module.state_dict().items():
            place = self._place(key)
            shape = tuple(value.shape)
            for name, share in zip(place.keys, place.shares, strict=True):
                part = (shape[0] * share // sum(place.shares), *shape[1:]) if len(place.keys) > 1 else shape
                if place.transposed:
                    part = part[::-1]
                if place.flat:
                    part = tuple(part[next((n for n, size in enumerate(part) if size != 1), len(part)) :])
                found[name] = part
        return found

    def load(self, module: nn.Module, tensors: Mapping[str, Tensor], *, ignored: frozenset[str] = frozenset()) -> None:
        """Load a published file's tensors; every one must be there, none may be left over, every shape must fit.

        Raises
        ------
        CheckpointMismatch
            With the published names of what is missing, left over or of another shape.
        """
        wanted = self.shapes(module)
        _Published(wanted).check(tensors, ignored)
        ours = {}
        for key, value in module.state_dict().items():
            place = self._place(key)
            parts = [tensors[name].t() if place.transposed else tensors[name] for name in place.keys]
            ours[key] = torch.cat(parts).reshape(value.shape)
        load_exactly(module, ours)

    def published(self, module: nn.Module) -> dict[str, Tensor]:
        """The tensors of ``module`` as a published file holds them."""
        found = {}
        wanted = self.shapes(module)
        for key, value in module.state_dict().items():
            place = self._place(key)
            sizes = [value.shape[0] * share // sum(place.shares) for share in place.shares] if value.ndim else [1]
            parts = value.split(sizes) if len(sizes) > 1 else (value,)
            for name, part in zip(place.keys, parts, strict=True):
                found[name] = (part.t() if place.transposed else part).reshape(wanted[name]).contiguous()
        return found

    def _place(self, key: str) -> _Place:
        for pattern, name in self.rules:
            if (match := re.fullmatch(pattern, key)) is None:
                continue
            name, _, mark = name.partition("^")
            name = match.expand(name)
            inner = _PARTS.search(name)
            if inner is None:
                return _Place((name,), (1,), mark == "T", mark == "1")
            parts = [each.partition(":") for each in inner[1].split(",")]
            keys = tuple(name.replace(inner[0], each[0]) for each in parts)
            return _Place(keys, tuple(int(each[2] or 1) for each in parts), mark == "T", mark == "1")
        raise KeyError(f"the layout has no name for {key}")


class _Published(nn.Module):
    """Stands for a published file, so that missing and left-over keys are told by their published names."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._shapes = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:  # type: ignore[override]
        return dict(self._shapes)

    def load_state_dict(self, *args: object, **kwargs: object) -> None:
        """Nothing to load; only the comparison is wanted."""

    def check(self, tensors: Mapping[str, Tensor], ignored: frozenset[str]) -> None:
        if not self._shapes:
            raise CheckpointMismatch("the network has no parameters")
        load_exactly(self, tensors, ignored=ignored)
