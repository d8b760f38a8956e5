"""The embedded baseline on real scans, read as the node reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.registry import Registry
from models.results import Laterality, Outcome, StudyResult


def assess(folder: Path) -> StudyResult:
    """Result on all files below ``folder``."""
    model = Registry().get("infarct-adc-baseline")
    study = load_study(sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"))
    sources = fill_roles(study, model.card.inputs)
    return model.run({role: source.volume for role, source in sources.items()}, {})


def test_small_embolic_infarcts_are_found_on_their_side(shared_data: Path) -> None:
    result = assess(shared_data / "mr_stroke_isles22_case0001")
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is not None
    assert 0.5 < result.total_ml < 5
    assert {region.laterality for region in result.segmentation.regions} == {Laterality.LEFT}
    # The two foci a reader sees first: high convexity and beside the ventricle, voxel (slice, row, column).
    for focus in ((51, 56, 67), (42, 52, 64)):
        near = tuple(slice(n - 3, n + 4) for n in focus)
        assert np.count_nonzero(result.segmentation.mask_zyx[near]) >= 20


@pytest.mark.parametrize("folder", ["mr_brain_enhanced_siemens_xa30", "mr_dti_canon_520_instances"])
def test_healthy_brains_stay_clean(folder: str, shared_data: Path) -> None:
    result = assess(shared_data / folder)
    assert result.outcome is Outcome.NOTHING_FOUND or result.total_ml <= 0.3
    assert result.detection_limit_ml is not None
    # Voxels of 3 mm: not what the smallest speck could be, but what is seen nearly always.
    assert 0.5 <= result.detection_limit_ml <= 5
