"""How sure the infarct network must be of what the rules did not find: ``peak``, fitted on the scans it was trained on.

On fresh implants in those scans, bent or as they are, on the healthy scans themselves and on phantoms: the cut with the
best lesion F1 among those that leave every healthy head as the rules leave it, and then one step stricter, since the
network knows these brains. A scan that was left out of the training takes no part.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from models.adapters.feed_forward import FeedForward, build
from models.card import CARD_FILE, Card
from models.errors import NotAssessed
from models.export.infarct_implants import Head, draw_volume_ml, implanted
from models.export.infarct_pool import drawn_phantom
from models.export.infarct_table import Mask, lesion_f1
from models.export.infarct_variety import bent
from models.model import Model

PEAKS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
RULES_ONLY = 2.0
"""A cut that no probability reaches."""
EACH, HEALTHY_EACH, PHANTOMS = 24, 6, 24
FIRST = 50_000
"""Number of the first phantom; those trained on have lower ones."""


def fitted_peak(model: Model, scans: Sequence[Head], seed: int) -> float:
    """The cut for ``model``, whose network was trained on ``scans``."""
    scores: list[list[float]] = [[] for _ in PEAKS]
    spoilt = [False for _ in PEAKS]
    for head in _heads(scans, seed):
        marked = _marked(model, head)
        for n, mask in enumerate(marked[: len(PEAKS)]):
            if head.truth_zyx.any():
                scores[n].append(lesion_f1(mask, head.truth_zyx))
            else:
                spoilt[n] |= not np.array_equal(mask, marked[-1])
    means = [round(float(np.mean(each)), 3) for each in scores]
    print(f"lesion F1 at peak: {dict(zip(PEAKS, means, strict=True))}; marks the healthy: {spoilt}", flush=True)
    best = max((n for n, bad in enumerate(spoilt) if not bad), key=lambda n: (means[n], n), default=len(PEAKS) - 1)
    return PEAKS[min(best + 1, len(PEAKS) - 1)]


def write_peak(folder: Path, peak: float) -> None:
    """Write ``peak`` into the card in ``folder``."""
    path = folder / CARD_FILE
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = [f"peak = {peak}" if line.startswith("peak = ") else line for line in lines]
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")
    Card.load(folder)


def _heads(scans: Sequence[Head], seed: int) -> Iterator[Head]:
    for scan in scans:
        rng = np.random.default_rng([seed, zlib.crc32(scan.scanner.encode()), FIRST])
        yield scan
        for _ in range(HEALTHY_EACH):
            yield bent(scan, rng)
        for number in range(EACH):
            yield implanted(bent(scan, rng) if number % 2 else scan, rng, draw_volume_ml(rng))
    for number in range(PHANTOMS):
        yield drawn_phantom(seed, FIRST + number)


def _marked(model: Model, head: Head) -> list[Mask]:
    """What is marked at each of :data:`PEAKS`, and without the network's own parts; nothing where there is no assessing it."""
    adapter = cast(FeedForward, build(model))
    try:
        workspace = adapter.prepared({"dwi": head.dwi, "adc": head.adc}, {})
    except NotAssessed:
        return []
    workspace.run_graph("main")
    return [adapter.labels_at(workspace, {"peak": peak}) > 0 for peak in (*PEAKS, RULES_ONLY)]
