"""DeepISLES' SWAN: five residual U-Nets and five Swin Factorizers to an ensemble of graphs, and a card for infarct.

What happens before and after is the authors' own: FLAIR brought onto DWI, z-score of what is not zero in each series, 2 mm,
windows of 64 voxels that overlap by half, the mean of the logits back on the images' grid, cut at zero. Sizes are read from
the tensors; what those do not tell (by how much images are rolled, how many rounds of least squares) from the settings that
lie beside them, else from the published configuration.

Sources: pashtari/factorizer-isles22@a6deb83 predict.py, configs; Tabrisrei/ISLES22_Ensemble@2e07ce2 src/FACTORIZER/predict.py,
src/FACTORIZER/model/factorizer/factorizer/data/transforms.py; pashtari/factorizer@1c44652 factorizer/datasets/isles.py.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.card import file_digest
from models.errors import CheckpointMismatch
from models.export.checkpoint import load_exactly
from models.export.factorizer_network import FactorizerNet, FactorizerShape
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card
from models.export.released_folder import part
from models.export.training_state import TrainingState, read_training_state

SYSTEM = "deepisles-swan"
KINDS = ("resunet", "swin-factorizer")
"""Folders of the two networks, in the order of the ensemble."""
SIDE = 64
"""Voxels along each side of the window that the residual U-Net was trained on."""
_PACKAGES = frozenset({"factorizer", "torch", "monai", "torchmetrics", "pytorch_lightning", "lightning_fabric"})
_PREFIX = "net."
_FOLD = re.compile(r"fold(\d+)")
_KNOWN = {"rank": 1, "solver": "hals"}


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the ensemble.

    Parameters
    ----------
    checkpoint : Path
        The released folder ``logs`` (DeepISLES: ``weights/FACTORIZER``), which holds
        ``…/foldN/resunet/version_0/checkpoints/*.ckpt`` and ``…/foldN/swin-factorizer/…``, or a folder above it. Every
        file becomes a member.
    folder : Path
        Existing folder; gets ``main.onnx`` (``member_2.onnx`` …) and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    files = checkpoints_in(checkpoint)
    graphs: dict[str, Exported] = {}
    keys = 0
    window: tuple[int, ...] = ()
    for number, file in enumerate(files.values(), start=1):
        state = read_training_state(file, _PACKAGES)
        network = network_of(state)
        taken = network.shape.window
        if taken and window and taken != window:
            raise CheckpointMismatch(f"{file.name} takes windows of {taken}, another one of {window}")
        window = taken or window
        name = "main" if number == 1 else f"member_{number}"
        graphs[name] = export_graph(network, recipe(network.shape), folder / f"{name}.onnx")
        keys += len(state.tensors)
    content = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))
    content["options"]["members"] = list(graphs)
    content["options"]["window"]["size"] = list(window or (SIDE,) * 3)
    content["provenance"]["checkpoints_sha256"] = {name: file_digest(file) for name, file in files.items()}
    card = complete_card(SYSTEM, folder, graphs, content=content)
    return Imported(SYSTEM, next(iter(files.values())), card, tuple(graphs.values()), keys)


def checkpoints_in(folder: Path) -> dict[str, Path]:
    """One file for each network and fold, by both: the residual U-Nets first, folds in order.

    Raises
    ------
    CheckpointMismatch
        There is none, or two of the same.
    """
    found: dict[tuple[str, int], Path] = {}
    for path in sorted(folder.rglob("fold*/*/version_*/checkpoints/*.ckpt")):
        kind, fold = path.parents[2].name, _FOLD.fullmatch(path.parents[3].name)
        if kind not in KINDS or fold is None:
            continue
        if (kind, int(fold[1])) in found:
            raise CheckpointMismatch(f"{folder.name} holds more than one {kind} of fold {fold[1]}")
        found[kind, int(fold[1])] = path
    if not found:
        raise CheckpointMismatch(
            f"{folder.name} does not hold foldN/{KINDS[0]}/version_0/checkpoints/*.ckpt or that of {KINDS[1]}"
        )
    return {f"{kind}-{fold}": found[kind, fold] for kind, fold in sorted(found)}


def network_of(state: TrainingState) -> FactorizerNet:
    """The network of a file, with its weights.

    Raises
    ------
    CheckpointMismatch
        It is neither of the two, or solves its factorisations otherwise.
    """
    if strange := sorted(key for key in state.tensors if not key.startswith(_PREFIX)):
        raise CheckpointMismatch(f"not a network of SWAN: it has {strange[0]}")
    tensors = part(state.tensors, _PREFIX)
    shape = shape_of(tensors)
    if shape.window:
        shape = _told(shape, factorisation_in(state.settings))
    network = FactorizerNet(shape)
    load_exactly(network, tensors)
    return network.eval()


def shape_of(tensors: Mapping[str, Tensor]) -> FactorizerShape:
    """Sizes that tensors have. Raises CheckpointMismatch."""
    try:
        last = max(int(found[1]) for key in tensors if (found := re.match(r"encoder\.blocks\.(\d+)\.", key)))
        stem = tensors["stem.weight"]
        levels = [tensors[f"encoder.blocks.{n}.blocks.0.weight"].shape[0] for n in range(1, last + 1)]
        shape = FactorizerShape(
            channels=stem.shape[1],
            outputs=tensors["heads.0.weight"].shape[0],
            width=(stem.shape[0], *levels),
            heads=sum(bool(re.fullmatch(r"heads\.\d+\.weight", key)) for key in tensors),
        )
        deepest = f"encoder.blocks.{last}.blocks.1"
        if f"{deepest}.conv1.weight" in tensors:
            return shape
        start, row = (tensors[f"{deepest}.blocks.nmf.fn.1.factorize.init.{name}"] for name in ("u0", "v0"))
        place = tensors[f"{deepest}.pos_embed.pos"]
        inner = tensors[f"{deepest}.blocks.mlp.fn.1.block.0.linear.weight"]
    except (KeyError, ValueError) as error:
        raise CheckpointMismatch(f"not a network of SWAN: {error} is missing") from error
    patch = round(row.shape[0] ** (1 / 3))
    if place.ndim != 5 or start.shape[1] != 1 or patch**3 != row.shape[0]:
        raise CheckpointMismatch("factorisations other than of rank one, on cubes of a 3-D image")
    return replace(
        shape,
        window=tuple(side * 2**last for side in place.shape[2:]),
        head_width=start.shape[0],
        patch=patch,
        wider=inner.shape[0] // inner.shape[1],
        shifts=tuple(range(patch)),
    )


def factorisation_in(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the factorisation among those of the training; empty: they are not there."""
    return _options(_options(settings.get("network")).get("nmf"))


def recipe(shape: FactorizerShape) -> Recipe:
    """Windows to compare with: one, then two at once; for the residual U-Net of two sizes."""
    generator = torch.Generator().manual_seed(0)
    step = 2 ** (len(shape.width) - 1)
    sizes, axes = [(1, *shape.window), (2, *shape.window)], {0: "count"}
    if not shape.window:
        sizes, axes = [(1, 2 * step, step, step), (1, step, 2 * step, 3 * step)], {2: "x", 3: "y", 4: "z"}
    compared = [(torch.randn(n, shape.channels, *size, generator=generator),) for n, *size in sizes]
    return Recipe(
        ("image",),
        ("logits",),
        compared[1],
        compared,
        {"image": axes},
        multiples=1 if shape.window else step,
        # It writes the rounds of least squares, which the newer one takes apart, in a hundredth of the time.
        legacy_first=True,
    )


def _told(shape: FactorizerShape, settings: Mapping[str, Any]) -> FactorizerShape:
    """``shape`` with what only the settings tell."""
    for name, wanted in _KNOWN.items():
        if settings.get(name, wanted) != wanted:
            raise CheckpointMismatch(f"its factorisations have {name} {settings[name]!r}; known is {wanted!r}")
    shifts = _options(settings.get("tensorize")).get("shifts")
    rounds = settings.get("num_iters", shape.rounds)
    try:
        told = tuple(int(each or 0) for each in shifts) if shifts is not None else shape.shifts
        return replace(shape, shifts=told, rounds=int(rounds))
    except (TypeError, ValueError) as error:
        raise CheckpointMismatch(f"its factorisations have shifts {shifts!r} and {rounds!r} rounds") from error


def _options(entry: Any) -> Mapping[str, Any]:
    """The options of ``[class, options]``."""
    found = entry[1] if isinstance(entry, Sequence) and not isinstance(entry, str) and len(entry) > 1 else entry
    return found if isinstance(found, Mapping) else {}
