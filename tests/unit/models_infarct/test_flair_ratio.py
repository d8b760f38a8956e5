"""The FLAIR signal ratio: right on phantoms where it is known, and never in the way of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.composer import compose
from models.consistency import contradictions
from models.model import Model
from models.phantom import LesionSpec, Phantom, make_phantom
from models.ratio_terms import FLAIR_RATIO, RATIO
from models.results import Outcome, StudyResult
from models.signal_ratio import BASELINE, LIMITATIONS, NO_REFERENCE, NOT_REGISTERED
from models.volume import Volume

SHIFT_MM = (3.0, -2.0, 4.0)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """One infarct on the left that T2 alone does not show."""
    return make_phantom(12, lesions=[LesionSpec(15.0, "left", s0_factor=1.0)])


def flair(phantom: Phantom, ratio: float) -> Volume:
    """T2 contrast with dark CSF, the infarct ``ratio`` as bright as it would be, the head elsewhere in the scanner."""
    array = np.where(phantom.adc.array_zyx > 1500, 0.15, 1.0) * phantom.b0.array_zyx
    affine = phantom.b0.affine_lps.copy()
    affine[:3, 3] += SHIFT_MM
    return Volume((array * np.where(phantom.truth_zyx > 0, ratio, 1.0)).astype(np.float32), affine)


def run(model: Model, phantom: Phantom, flair: Volume | None = None) -> StudyResult:
    beside = {} if flair is None else {"flair": flair}
    return model.run({"dwi": phantom.dwi, "adc": phantom.adc, **beside}, {})


def measured(result: StudyResult) -> list[float]:
    assert all(q.name == RATIO and q.unit.value == "1" for q in result.totals if q.remark == FLAIR_RATIO)
    return [q.value for q in result.totals if q.remark == FLAIR_RATIO]


@pytest.mark.parametrize("ratio", [1.0, 1.6])
def test_the_ratio_is_the_one_drawn(ratio: float, baseline: Model, phantom: Phantom) -> None:
    result = run(baseline, phantom, flair(phantom, ratio))
    (found,) = measured(result)
    assert found == pytest.approx(ratio, rel=0.1)
    assert result.segmentation is not None
    (region,) = result.segmentation.regions
    assert [q.value for q in region.quantities if q.remark == FLAIR_RATIO] == [found]
    assert set(result.limitations) & set(LIMITATIONS) == {BASELINE}


def test_the_result_is_otherwise_the_same(baseline: Model, phantom: Phantom) -> None:
    alone, beside = run(baseline, phantom), run(baseline, phantom, flair(phantom, 1.6))
    assert alone.segmentation is not None and beside.segmentation is not None
    assert np.array_equal(alone.segmentation.mask_zyx, beside.segmentation.mask_zyx)
    assert alone.totals == beside.totals[:1] and measured(alone) == []
    assert set(alone.limitations) & set(LIMITATIONS) == set()
    assert "no series" in alone.evidence["flair"]


@pytest.mark.parametrize("fault", ["elsewhere", "nan", "noise"])
def test_a_series_that_does_not_fit_costs_the_ratio_alone(fault: str, baseline: Model, phantom: Phantom) -> None:
    good = flair(phantom, 1.6)
    if fault == "elsewhere":
        affine = good.affine_lps.copy()
        affine[:3, 3] += (0, 0, 400)
        given = replace(good, affine_lps=affine)
    elif fault == "nan":
        array = good.array_zyx.copy()
        array[3, 4, 5] = np.nan
        given = replace(good, array_zyx=array)
    else:
        # A slab at the vertex: it shows another part of the head.
        given = Volume(good.array_zyx[-6:], good.affine_lps)
    result = run(baseline, phantom, given)
    assert result.outcome is Outcome.FOUND and measured(result) == []
    assert set(result.limitations) & set(LIMITATIONS) == {NOT_REGISTERED}
    assert result.evidence["flair"]


def test_an_infarct_opposite_an_infarct_has_nothing_to_be_compared_with(baseline: Model) -> None:
    both = [
        LesionSpec(20.0, side, s0_factor=1.0, centre_mm=(x, -10.0, 20.0))
        for side, x in (("left", 32.0), ("right", -32.0))
    ]
    mirrored = make_phantom(12, lesions=both)
    result = run(baseline, mirrored, flair(mirrored, 1.6))
    assert result.segmentation is not None and len(result.segmentation.regions) >= 2
    assert measured(result) == [] and NO_REFERENCE in result.limitations


def test_nothing_found_says_nothing_of_it(baseline: Model) -> None:
    result = run(baseline, make_phantom(101, lesions=[]))
    assert result.outcome is Outcome.NOTHING_FOUND
    assert not set(result.limitations) & set(LIMITATIONS)


@pytest.mark.parametrize(
    ("language", "sentence", "label"),
    [
        (
            "en",
            "FLAIR signal ratio of the restricted diffusion to the mirrored tissue: {:.2f} (baseline figure).",
            "nothing about the time of onset",
        ),
        (
            "ja",
            "FLAIR信号比（拡散制限域と鏡像位置の組織との比）：{:.2f}（ベースライン手法による参考値）。",
            "発症時刻を示すものではない",
        ),
    ],
)
def test_the_text_gives_it_with_its_label_and_the_check_reads_it(
    language: str, sentence: str, label: str, baseline: Model, phantom: Phantom
) -> None:
    result = run(baseline, phantom, flair(phantom, 1.68))
    text = compose(result, language)
    (found,) = measured(result)
    assert sentence.format(found) in text.findings and any(label in note for note in text.notes)
    assert contradictions(text, result) == ()
    other = replace(text, findings=text.findings.replace(f"{found:.2f}", "1.15"))
    assert other.findings != text.findings
    assert any("FLAIR signal ratio '1.15'" in each for each in contradictions(other, result))
    absent = run(baseline, phantom)
    assert not any("FLAIR" in note for note in compose(absent, language).notes)
    assert contradictions(replace(text, impression=compose(absent, language).impression), absent)
