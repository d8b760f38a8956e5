"""DeepISLES' NVAUTO: fifteen TorchScript archives to an ensemble of graphs, and a card for infarct on ADC and DWI.

The archives are all that was published; each holds its network with its weights. So they are loaded here, in the process that
converts (:mod:`models.export.torchscript` says what they may hold), and the graphs are held against them directly. What
happens before and after is DeepISLES' own: 1 mm, z-score of what is not zero, windows of 192x192x128 that overlap by five
eighths, mean of the probabilities.

Source: ezequieldlrosa/DeepIsles@0968a02 src/NVAUTO/process.py.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import torch
from torch import Tensor, nn

from models.card import file_digest
from models.errors import CheckpointMismatch
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import CARDS_FOLDER, Imported, complete_card
from models.export.torchscript import load_torchscript, shapes_of

SYSTEM = "deepisles-nvauto"
CHANNELS, CLASSES = 2, 2
_ARCHIVE = re.compile(r"model(\d+)\.ts")
_COMPARED = ((64, 32, 32), (32, 64, 32))
"""Windows compared with the archive; a network that halves its grid up to five times takes any multiple of 32."""


def convert(checkpoint: Path, folder: Path) -> Imported:
    """Convert the archives.

    Parameters
    ----------
    checkpoint : Path
        The released folder ``NVAUTO/ts`` with ``model0.ts`` …, or its parent. Every archive becomes a member.
    folder : Path
        Existing folder; gets ``main.onnx`` (``member_2.onnx`` …) and ``model.toml``.

    Raises
    ------
    CheckpointMismatch, CheckpointUnsafe, ExportFailed
    """
    files = archives_in(checkpoint)
    graphs: dict[str, Exported] = {}
    first: dict[str, tuple[int, ...]] = {}
    for number, file in enumerate(files, start=1):
        module = load_torchscript(file)
        shapes = dict(shapes_of(module))
        first = first or shapes
        if shapes != first:
            other = sorted(set(shapes.items()) ^ set(first.items()))[0][0]
            raise CheckpointMismatch(f"{file.name} is another network than {files[0].name}: {other}")
        _require_classes(module, file)
        name = "main" if number == 1 else f"member_{number}"
        graphs[name] = export_graph(module, recipe(), folder / f"{name}.onnx")
    digests = {file.stem: file_digest(file) for file in files}
    content = tomllib.loads((CARDS_FOLDER / f"{SYSTEM}.toml").read_text(encoding="utf-8"))
    content["options"]["members"] = list(graphs)
    content["provenance"]["archives_sha256"] = digests
    card = complete_card(SYSTEM, folder, graphs, content=content)
    return Imported(SYSTEM, files[0], card, tuple(graphs.values()), len(first))


def archives_in(folder: Path) -> list[Path]:
    """The archives in the order of their numbers. Raises CheckpointMismatch."""
    found = [each for place in (folder, folder / "ts", folder / "NVAUTO" / "ts") for each in place.glob("model*.ts")]
    numbered = {int(match[1]): each for each in found if (match := _ARCHIVE.fullmatch(each.name))}
    if not numbered or sorted(numbered) != list(range(len(numbered))):
        raise CheckpointMismatch(f"{folder.name} does not hold model0.ts, model1.ts … without a gap")
    return [numbered[number] for number in sorted(numbered)]


def recipe() -> Recipe:
    """Windows to trace and compare with; the sizes along all three axes are free."""
    generator = torch.Generator().manual_seed(0)
    compared = [(torch.randn(1, CHANNELS, *size, generator=generator),) for size in _COMPARED]
    axes = {2: "x", 3: "y", 4: "z"}
    # Archives are what the older exporter was made for; the newer one takes none.
    return Recipe(("image",), ("logits",), compared[0], compared, {"image": axes}, multiples=32, legacy_first=True)


def _require_classes(module: nn.Module, file: Path) -> None:
    size = _COMPARED[0]
    try:
        with torch.no_grad():
            made = module(torch.zeros(1, CHANNELS, *size))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise CheckpointMismatch(f"{file.name} does not take ADC and DWI: {reason}") from error
    if not isinstance(made, Tensor) or made.shape != (1, CLASSES, *size):
        raise CheckpointMismatch(f"{file.name} does not give background and infarct for each voxel")
