"""The stated detection limit holds: above it nearly every infarct is found, however faint an infarct may be."""

from __future__ import annotations

import numpy as np
import pytest

from models.model import Model
from models.phantom import LesionSpec, make_phantom
from tests.unit.models_infarct.agreement import marked, run


def found_share(baseline: Model, volume_ml: float, noise: float, seeds: range) -> tuple[float, float]:
    """Share of random infarcts of a volume that are marked, and the largest limit stated."""
    hits, limits = [], []
    for seed in seeds:
        rng = np.random.default_rng([seed, 77])
        lesions = [
            LesionSpec(volume_ml, side, float(rng.uniform(450, 600)), float(rng.uniform(1.1, 1.5)))
            for side in ("left", "right", "left", "right")
        ]
        phantom = make_phantom(seed, noise=noise, lesions=lesions)
        mask = marked(run(baseline, phantom), phantom) > 0
        hits += [bool((mask & (phantom.truth_zyx == n)).any()) for n in range(1, 5)]
        limits.append(run(baseline, make_phantom(seed, noise=noise, lesions=[])).detection_limit_ml or 0.0)
    return float(np.mean(hits)), max(limits)


@pytest.mark.slow
def test_a_limit_is_what_is_seen_nearly_always(baseline: Model) -> None:
    share, limit = found_share(baseline, 1.5, 0.05, range(3200, 3203))
    assert limit <= 1.5
    assert share >= 0.8


@pytest.mark.slow
def test_noise_raises_the_limit(baseline: Model) -> None:
    share, limit = found_share(baseline, 3.0, 0.1, range(3200, 3206))
    assert 1.5 <= limit <= 5
    assert share >= 0.8
