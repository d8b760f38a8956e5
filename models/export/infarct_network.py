"""An infarct network of our own: ``python -m models.export.infarct_network SCANS OUT [--without NAME]``.

``SCANS`` holds healthy diffusion scans as ``NAME.npz`` (:func:`models.export.infarct_implants.read_head`); infarcts are
implanted in them and drawn in phantoms, a small U-Net learns to find them, and ``OUT`` gets ``main.onnx``, its known
answer, ``model.toml`` and ``training.json``. Data, order, initial weights and optimiser follow from ``--seed``. Nothing
here is ever run by the node, and no image of the scans is in what it writes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.card import Card
from models.errors import BrainNotFound
from models.export.graph_export import Exported, Recipe, export_graph
from models.export.imported import complete_card
from models.export.infarct_deformation import deformed
from models.export.infarct_implants import Head, read_head
from models.export.infarct_training import BATCH, PATCH, Prepared, prepared, train, training_heads
from models.export.infarct_unet import FEATURES, InfarctUNet

SYSTEM = "infarct-network"
LOG = "training.json"
SEED = 7
WINDOW = (16, 96, 96)
VARIANTS, PHANTOMS, STEPS = 120, 200, 3000


def recipe() -> Recipe:
    """Windows to trace and compare with: one, then two at once."""
    generator = torch.Generator().manual_seed(0)
    size = (2, *WINDOW)
    two = torch.randn(2, *size, generator=generator)
    z, y, x = (torch.linspace(-3, 3, n) for n in WINDOW)
    distance = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
    # Rings that pack well: dark on ADC where they are bright on DWI. It is kept as the known answer's input.
    rings = distance.round() % 4 - 1.5
    one = torch.stack([rings, -rings])[None].contiguous()
    return Recipe(("image",), ("logits",), (two,), [(one,), (two,)], {"image": {0: "count"}}, legacy_first=True)


def write_model(
    network: InfarctUNet, folder: Path, provenance: dict[str, Any], model_id: str = SYSTEM
) -> tuple[Card, Exported]:
    """Write graph, known answer and card of ``network`` into ``folder``."""
    graph = export_graph(network, recipe(), folder / "main.onnx")
    named = {f'id = "{SYSTEM}"': f'id = "{model_id}"'}
    card = complete_card(SYSTEM, folder, {"main": graph}, tables={"provenance": provenance}, replacements=named)
    return card, graph


def main() -> None:
    """Train, export, and write the log."""
    given = _arguments()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(given.threads)
    paths = [path for path in sorted(given.scans.glob("*.npz")) if path.stem not in given.without]
    given.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    rng = np.random.default_rng(given.seed)
    scans = [read_head(path) for path in paths]
    heads = training_heads(scans, rng, each=given.variants, phantoms=given.phantoms)
    volumes = [head.infarct_ml for head in heads if head.infarct_ml]
    ready = [deformed(each, rng) for each in map(_prepared, heads) if each is not None]
    count = len(heads)
    del heads
    preparing = time.monotonic() - begun
    print(f"{len(ready)} heads in {preparing:.0f} s", flush=True)
    network, log = train(ready, given.seed, given.steps)
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
        "implanted_variants_each": given.variants,
        "phantoms": given.phantoms,
        "infarct_ml": {"smallest": round(min(volumes), 2), "median": round(float(np.median(volumes)), 2)}
        | {"largest": round(max(volumes), 1)},
        "heads_without_infarct": count - len(volumes),
        "heads_without_a_brain": count - len(ready),
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


def _prepared(head: Head) -> Prepared | None:
    """None where the node would find no brain."""
    try:
        return prepared(head)
    except BrainNotFound:
        return None


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
    return parser.parse_args()


if __name__ == "__main__":
    main()
