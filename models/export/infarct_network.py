"""An infarct network of our own: ``python -m models.export.infarct_network SCANS OUT [--without NAME]``.

``SCANS`` holds healthy diffusion scans as ``NAME.npz`` (:func:`models.export.infarct_implants.read_head`); infarcts are
implanted in them and drawn in phantoms, a small U-Net learns to correct what the threshold model finds, and ``OUT`` gets
``main.onnx``, its known answer, the threshold model's graphs, ``model.toml`` and ``training.json``. Data, order, initial
weights and optimiser follow from ``--seed``. Nothing here is ever run by the node, and no image of the scans is in what it
writes, but for the prepared heads in ``--pool``, which are to be deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from models.card import Card
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import complete_card
from models.export.infarct_baseline import FOLDER as RULES_FOLDER
from models.export.infarct_implants import read_head
from models.export.infarct_pool import Pool
from models.export.infarct_training import BATCH, PATCH, train
from models.export.infarct_unet import CHANNELS, FEATURES, InfarctUNet
from models.model import Model

SYSTEM = "infarct-network"
LOG = "training.json"
SEED = 7
WINDOWS = ((16, 48, 48), (8, 40, 32))
VARIANTS, PHANTOMS, STEPS = 320, 240, 5000
RULES = {"smooth": "smooth", "evidence": "evidence", "main": "scores"}
"""Graphs of the threshold model, and what they are called here."""


def recipe() -> Recipe:
    """Images to trace and compare with, of two sizes."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for size in WINDOWS:
        image = torch.randn(1, CHANNELS, *size, generator=generator).clamp(-2, 2)
        image[:, -1] = (image[:, -1] > 1).float()
        images.append((image,))
    dynamic = {"image": {2: "slices", 3: "rows", 4: "columns"}}
    return Recipe(("image",), ("logits",), images[0], [images[1], images[0]], dynamic, legacy_first=True)


def write_model(
    network: InfarctUNet, folder: Path, provenance: dict[str, Any], model_id: str = SYSTEM
) -> tuple[Card, Exported]:
    """Write graphs, known answers and card of ``network`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = export_graph(network, recipe(), folder / "main.onnx")
    named = {f'id = "{SYSTEM}"': f'id = "{model_id}"'}
    tables = {**_rules(folder), "provenance": provenance}
    card = complete_card(SYSTEM, folder, {"main": graph}, tables=tables, replacements=named)
    return card, graph


def _rules(folder: Path) -> dict[str, dict[str, Any]]:
    """The threshold model's graphs, copied into ``folder``, as tables of a card."""
    card = Card.load(RULES_FOLDER)
    tables: dict[str, dict[str, Any]] = {}
    for theirs, ours in RULES.items():
        graph, golden = card.graphs[theirs], card.golden[theirs]
        for source, target in ((graph.file, f"{ours}.onnx"), (golden.file, f"{ours}-golden.npz")):
            shutil.copyfile(RULES_FOLDER / source, folder / target)
        tables[f"graphs.{ours}"] = {**graph.model_dump(mode="json"), "file": f"{ours}.onnx"}
        tables[f"golden.{ours}"] = {**golden.model_dump(mode="json"), "file": f"{ours}-golden.npz"}
    return tables


def untrained(folder: Path) -> Model:
    """A model whose network gives what the rules find: its steps prepare the heads to train on."""
    write_model(InfarctUNet().eval(), folder, {"weights": "none: untrained"})
    return Model(folder, threads=1)


def main() -> None:
    """Train, export, and write the log."""
    given = _arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(given.threads)
    paths = [path for path in sorted(given.scans.glob("*.npz")) if path.stem not in given.without]
    given.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        pool = Pool(given.pool or Path(scratch) / "pool", untrained(Path(scratch) / "untrained"), given.seed)
        heads = [each for path in paths for each in pool.of_scan(read_head(path), given.variants)]
        heads += pool.of_phantoms(given.phantoms)
        preparing = time.monotonic() - begun
        print(f"{len(heads)} heads in {preparing:.0f} s", flush=True)
        network, log = train(heads, given.seed, given.steps)
    provenance = {
        "weights": "trained from scratch by this product's recipe; no others' weights",
        "built_by": f"python -m models.export.infarct_network SCANS OUT --seed {given.seed} --steps {given.steps}",
        "scans": [path.stem for path in paths],
    }
    _, graph = write_model(network, given.out, provenance, given.id)
    summary: dict[str, Any] = {
        "seed": given.seed,
        "scans": [path.stem for path in paths],
        "left_out": given.without,
        "variants_of_each_scan": given.variants,
        "phantoms": given.phantoms,
        "heads": len(heads),
        "heads_without_infarct": sum(not each.truth.any() for each in heads),
        "parameters": sum(each.numel() for each in network.parameters()),
        "features": list(FEATURES),
        "window_zyx": list(PATCH),
        "batch": BATCH,
        "steps": given.steps,
        "threads": given.threads,
        "torch": torch.__version__,
        "seconds": {"preparing": round(preparing), "all": round(time.monotonic() - begun)},
        "exporter": graph.exporter,
        "relative_differences": [float(f"{each:.2e}") for each in graph.differences],
    }
    (given.out / LOG).write_text(json.dumps({**summary, "log": log}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scans", type=Path, help="folder of healthy scans, NAME.npz")
    parser.add_argument("out", type=Path, help="folder to write the model into")
    parser.add_argument("--id", default=SYSTEM, help="of the model; the one shipped has its own already")
    parser.add_argument("--without", action="append", default=[], help="scan to leave out (for the evaluation)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--variants", type=int, default=VARIANTS, help="implanted variants of each scan")
    parser.add_argument("--phantoms", type=int, default=PHANTOMS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--pool", type=Path, help="folder to keep prepared heads in, for further trainings of this seed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
