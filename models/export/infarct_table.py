"""The infarct models on the same cases: ``python -m models.export.infarct_table SCANS OUT.json [options]``.

Two tables. *Scanners*: networks trained without one scanner (``--without FOLDER``, one model folder for each scan's name)
beside the threshold baseline, on infarcts implanted in that scanner's healthy scan, on that scan as it is, and on variants of it
with decoys, as other scanners might show it. *Rows*: threshold,
automatic boxes and a promptable model, oracle boxes and the same, volumetric network, on phantoms the network has not seen
and, without an expert's mask, as agreement on further scans (``--unlabelled FILE.npz``). The rows of the promptable model need
its weights (``--medsam FOLDER``, a folder that holds the imported model ``medsam``); without, they say so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from models.errors import NodeError
from models.export.infarct_implants import (
    Head,
    as_other_scanner,
    implanted,
    phantom_head,
    read_head,
    with_decoys,
    with_iron,
)
from models.model import Model
from models.morphology import CUBE
from models.phantom import make_phantom
from models.prompts import boxes_of
from models.registry import Registry
from models.results import StudyResult

Mask = npt.NDArray[np.bool_]
Finder = Callable[[Head], Mask | None]
"""Mask of a head; None where the model refuses to assess it."""

BASELINE, CHAIN, PROMPTABLE = "infarct-adc-baseline", "stroke-dwi-medsam", "medsam"
VOLUMETRIC = "volumetric network"
SIZES_ML = ((0.1, 1.0), (1.0, 10.0), (10.0, 200.0))
IMPLANT_SEED = 211
FIRST_SEED = 5000
"""Of the phantoms to test on; those trained on have seeds from 100000."""
NEEDS_MEDSAM = "needs weights: python -m models.export.infarct_table SCANS OUT.json --medsam FOLDER"
NEEDS_NETWORK = "needs weights: python -m models.export.infarct_table SCANS OUT.json --network FOLDER"


def implants(scan: Head, each: int, seed: int = IMPLANT_SEED) -> list[Head]:
    """``each`` implants of every range of sizes in ``scan``; nothing else of it is changed."""
    rng = np.random.default_rng(seed)
    volumes = [np.exp(rng.uniform(*np.log(limits))) for limits in SIZES_ML for _ in range(each)]
    return [implanted(scan, rng, float(volume)) for volume in volumes]


def variants(scan: Head, count: int, seed: int = IMPLANT_SEED) -> list[Head]:
    """``scan`` with decoys and iron as ``count`` other scanners might show it; there is no infarct in it."""
    rng = np.random.default_rng([seed, 1])
    return [as_other_scanner(with_iron(with_decoys(scan, rng), rng), rng) for _ in range(count)]


def phantoms(count: int) -> list[Head]:
    """``count`` phantoms with infarcts and a quarter as many without."""
    sick = [phantom_head(FIRST_SEED + n) for n in range(count)]
    return sick + [phantom_head(FIRST_SEED + 500 + n, healthy=True) for n in range(count // 4)]


def standard_phantoms(count: int) -> list[Head]:
    """Phantoms as the baseline is tested on, by :func:`models.phantom.make_phantom`'s own defaults."""
    made = [make_phantom(1000 + n) for n in range(count)]
    return [Head("phantom", each.dwi, each.adc, each.brain_zyx, each.truth_zyx > 0) for each in made]


def model_finder(model: Model) -> Finder:
    """What ``model`` marks."""
    return lambda head: _mask(lambda: model.run(_inputs(head), {}), head)


def oracle_finder(model: Model) -> Finder:
    """What a promptable model draws in the boxes of the truth."""

    def find(head: Head) -> Mask | None:
        parts, _ = ndimage.label(head.truth_zyx, structure=CUBE)
        boxes = boxes_of(parts.astype(np.uint8))
        if not boxes:
            return np.zeros_like(head.truth_zyx)
        return _mask(lambda: model.segment({model.card.inputs[0].role: head.dwi}, boxes, {}), head)

    return find


def _inputs(head: Head) -> dict[str, Any]:
    return {"dwi": head.dwi, "adc": head.adc}


def _mask(run: Callable[[], StudyResult], head: Head) -> Mask | None:
    try:
        result = run()
    except NodeError:
        return None
    return np.zeros_like(head.truth_zyx) if result.segmentation is None else result.segmentation.mask_zyx > 0


def dice(one: Mask, other: Mask) -> float:
    """Dice coefficient; 1 where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def lesion_f1(found: Mask, truth: Mask) -> float:
    """F1 of lesions, one voxel of overlap, as in ISLES; 1 where both are empty."""
    there, expected = ndimage.label(truth, structure=CUBE)
    marked, given = ndimage.label(found, structure=CUBE)
    if expected + given == 0:
        return 1.0
    hit = len(np.unique(there[found & truth]))
    false = given - len(np.unique(marked[found & truth]))
    return 2 * hit / (2 * hit + false + expected - hit) if hit else 0.0


def row(find: Finder, heads: Sequence[Head]) -> dict[str, Any]:
    """Figures of one model on heads with a known truth; what it refuses is counted, and scored as nothing found."""
    answers = [find(head) for head in heads]
    refused = sum(answer is None for answer in answers)
    pairs = [
        (head, np.zeros_like(head.truth_zyx) if answer is None else answer)
        for head, answer in zip(heads, answers, strict=True)
    ]
    sick = [(head, mask) for head, mask in pairs if head.truth_zyx.any()]
    figures: dict[str, Any] = {"n": len(sick), "refused": refused}
    for low, high in ((0.0, 1000.0), *SIZES_ML):
        chosen = [(h, m) for h, m in sick if (low <= h.infarct_ml < high) or (low == 0.1 and h.infarct_ml < low)]
        if chosen:
            name = "all" if low == 0 else f"{low:g}-{high:g} mL"
            scores = [dice(mask, head.truth_zyx) for head, mask in chosen]
            quartiles = [round(float(q), 3) for q in np.percentile(scores, (50, 25, 75))]
            figures[name] = {
                "n": len(chosen),
                "dice_median_quartiles": quartiles,
                "lesion_f1_mean": round(float(np.mean([lesion_f1(m, h.truth_zyx) for h, m in chosen])), 3),
                "volume_error_ml_median": round(
                    float(np.median([abs(_ml(m, h) - h.infarct_ml) for h, m in chosen])), 2
                ),
            }
    healthy = [(head, mask) for head, mask in pairs if not head.truth_zyx.any()]
    figures["without_infarct"] = {"n": len(healthy), "false_ml": [round(_ml(m, h), 2) for h, m in healthy]}
    return figures


def _ml(mask: Mask, head: Head) -> float:
    return float(np.count_nonzero(mask)) * head.dwi.voxel_ml


def agreement(finders: Mapping[str, Finder | None], head: Head) -> dict[str, Any]:
    """Volumes and pairwise Dice of the rows on a scan without an expert's mask."""
    masks = {name: find(head) for name, find in finders.items() if find is not None}
    told = {name: "not assessed" if mask is None else round(_ml(mask, head), 2) for name, mask in masks.items()}
    names = [name for name, mask in masks.items() if mask is not None]
    pairs: dict[str, float] = {}
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            first, second = masks[one], masks[other]
            assert first is not None
            assert second is not None
            pairs[f"{one} / {other}"] = round(dice(first, second), 3)
    return {"volume_ml": told, "dice_between": pairs}


def rows_of(registry: Registry, network: Model | None) -> dict[str, Finder | None]:
    """The four rows; None where weights are missing."""
    there = not registry.missing(registry.get(CHAIN))
    return {
        "threshold": model_finder(registry.get(BASELINE)),
        "automatic boxes + promptable": model_finder(registry.get(CHAIN)) if there else None,
        "oracle boxes + promptable": oracle_finder(registry.get(PROMPTABLE)) if there else None,
        VOLUMETRIC: model_finder(network) if network is not None else None,
    }


def main() -> None:
    """Evaluate and write the tables."""
    given = _arguments()
    registry = Registry([given.medsam] if given.medsam else [], threads=1)
    baseline = model_finder(registry.get(BASELINE))
    content: dict[str, Any] = {"implant_seed": given.seed, "scanners": {}, "rows": {}}
    for folder in given.without:
        scan = read_head(given.scans / f"{folder.name}.npz")
        heads, healthy = [*implants(scan, given.each, given.seed), scan], variants(scan, given.each, given.seed)
        network = model_finder(Model(folder, threads=1))
        content["scanners"][folder.name] = {
            name: {**row(find, heads), "healthy_variants": row(find, healthy)["without_infarct"]}
            for name, find in (("threshold", baseline), ("network", network))
        }
        print(folder.name, json.dumps(content["scanners"][folder.name], indent=1), flush=True)
    finders = rows_of(registry, Model(given.network, threads=1) if given.network else None)
    sets = {"phantoms": phantoms(given.phantoms), "standard phantoms": standard_phantoms(given.phantoms)}
    for name, heads in sets.items():
        content["rows"][name] = {
            each: row(find, heads) if find is not None else (NEEDS_NETWORK if each == VOLUMETRIC else NEEDS_MEDSAM)
            for each, find in finders.items()
        }
        print(name, json.dumps(content["rows"][name], indent=1), flush=True)
    finders["oracle boxes + promptable"] = None
    content["rows"]["unlabelled"] = {path.stem: agreement(finders, read_head(path)) for path in given.unlabelled}
    print(json.dumps(content["rows"]["unlabelled"], indent=1))
    given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("scans", type=Path, help="folder of healthy scans, NAME.npz")
    parser.add_argument("out", type=Path, help="file to write the tables into (JSON)")
    parser.add_argument("--without", type=Path, action="append", default=[], help="model trained without scan NAME")
    parser.add_argument("--network", type=Path, help="folder that the recipe wrote")
    parser.add_argument("--medsam", type=Path, help="folder that holds the imported model medsam")
    parser.add_argument("--unlabelled", type=Path, action="append", default=[], help="scan without an expert's mask")
    parser.add_argument("--each", type=int, default=16, help="implants of every range of sizes, and healthy variants")
    parser.add_argument("--seed", type=int, default=IMPLANT_SEED, help="of the implants and the healthy variants")
    parser.add_argument("--phantoms", type=int, default=24)
    return parser.parse_args()


if __name__ == "__main__":
    main()
