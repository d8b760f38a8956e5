"""What converters of image–text models share: the image graph, the vectors of the card's phrases, the learnt scale."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.errors import CheckpointMismatch
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import CARDS_FOLDER
from models.phrases import PhraseClass

VECTORS_FILE = "phrases.npz"
LARGEST_SCALE = math.log(100.0)
"""CLIP's bound of the logarithm of the scale."""

Vectors = dict[str, npt.NDArray[np.float32]]
Embed = Callable[[Sequence[str]], Tensor]


def template(system: str) -> dict[str, Any]:
    """The card's template as it stands."""
    return tomllib.loads((CARDS_FOLDER / f"{system}.toml").read_text(encoding="utf-8"))


def class_vectors(system: str, embed: Embed) -> Vectors:
    """Vectors of the phrases of a system's template, as :func:`vectors_of` makes them."""
    return vectors_of(template(system)["options"], embed)


def vectors_of(options: Mapping[str, Any], embed: Embed) -> Vectors:
    """A matrix or vector for each side of each class of the card's options.

    Parameters
    ----------
    embed : callable
        Phrases of one side, embedded together, to vectors (n, joint) of any length.

    Returns
    -------
    dict
        ``CLASS/positive`` and ``CLASS/negative``. Where the card's ``phrases`` is ``normalised_mean``: the mean of the
        unit vectors at length one; ``mean``: that mean as it is, so that its product with an image is the mean of the
        products; ``max``: the unit vectors, one a row.
    """
    how = options.get("phrases", "normalised_mean")
    made = {}
    for entry in options["classes"]:
        stated = PhraseClass.model_validate(entry)
        for side, phrases in (("positive", stated.positive_phrases), ("negative", stated.negative)):
            if phrases:
                made[f"{stated.name}/{side}"] = _reduced(embed(phrases), how)
    return made


def _reduced(vectors: Tensor, how: str) -> npt.NDArray[np.float32]:
    unit = nn.functional.normalize(vectors.to(torch.float32), dim=-1)
    if how == "max":
        return unit.numpy()
    mean = unit.mean(0)
    return (nn.functional.normalize(mean, dim=0) if how == "normalised_mean" else mean).numpy()


def save_vectors(vectors: Vectors, folder: Path) -> None:
    """Write the vectors where the card's ``files.phrases`` names them."""
    np.savez_compressed(folder / VECTORS_FILE, allow_pickle=False, **vectors)


def scale_lines(scale: Tensor, bias: Tensor | None = None, *, clamp: float = LARGEST_SCALE) -> dict[str, str]:
    """Lines of the template that hold the learnt scale (its logarithm is stored, bounded as in training) and bias."""
    lines = {"scale = 1.0": f"scale = {math.exp(min(max(float(scale.detach()), 0.0), clamp)):.6f}"}
    if bias is not None:
        lines["bias = 0.0"] = f"bias = {float(bias.detach()):.6f}"
    return lines


def export_image(network: nn.Module, size: int, folder: Path, *, patches: bool = True) -> Exported:
    """Write the image graph (``pixels`` → ``global``, ``patches``) and compare it with torch, one image and several."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 3, size, size, generator=generator)
    steps = torch.linspace(-2, 2, size)
    rings = ((steps[:, None].square() + steps[None, :].square()).round() % 3 - 1).expand(1, 3, size, size)
    outputs = ("global", "patches") if patches else ("global",)
    recipe = Recipe(
        ("pixels",), outputs, (noise[:2],), [(rings.contiguous(),), (noise[:1],), (noise,)], {"pixels": {0: "count"}}
    )
    return export_graph(network, recipe, folder / "main.onnx")


def require(tensors: Mapping[str, Tensor], key: str, system: str) -> Tensor:
    """The tensor ``key``.

    Raises
    ------
    CheckpointMismatch
        It is not there: the file is of another system.
    """
    if key not in tensors:
        raise CheckpointMismatch(f"not a checkpoint of {system}: no {key}")
    return tensors[key]


def without(tensors: Mapping[str, Tensor], *endings: str) -> dict[str, Tensor]:
    """The tensors but for stale buffers, named by how their keys end."""
    return {key: value for key, value in tensors.items() if not key.endswith(endings)}


def count_blocks(tensors: Mapping[str, Tensor], before: str, after: str) -> int:
    """How many numbered blocks there are between two parts of a key."""
    numbers = {
        int(key[len(before) :].split(".")[0])
        for key in tensors
        if key.startswith(before) and key.endswith(after) and key[len(before) :].split(".")[0].isdigit()
    }
    return len(numbers)
