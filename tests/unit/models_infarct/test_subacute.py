"""The subacute mode: what is bright on DWI without a low ADC is reported, as that, and only to who asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.composer import compose
from models.errors import ParameterInvalid
from models.model import Model
from models.phantom import Distractor, LesionSpec, Phantom, make_phantom
from models.registry import Registry
from models.report import draft
from models.results import SUBACUTE, Outcome, StudyResult
from models.stored_result import StoredResult, dump, load
from models.volume_range import range_ml
from tests.unit.models_infarct.agreement import dice
from tests.unit.models_promptable.conftest import write_model

ACUTE, OLDER = 1, 2
ON = {"subacute": "1"}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """An acute infarct, and on the other side one as after two weeks: the ADC of normal tissue, bright by T2 alone."""
    older = LesionSpec(8.0, "right", adc_um2_s=820.0, s0_factor=1.9)
    return make_phantom(3, t2_shine_through=False, lesions=[LesionSpec(15.0, "left"), older])


def run(model: Model, phantom: Phantom, parameters: dict[str, str] | None = None) -> StudyResult:
    return model.run({"dwi": phantom.dwi, "adc": phantom.adc}, parameters or {})


@pytest.fixture(scope="module")
def results(baseline: Model, phantom: Phantom) -> tuple[StudyResult, StudyResult]:
    """Without and with the mode."""
    return run(baseline, phantom), run(baseline, phantom, ON)


def test_without_the_mode_it_is_missed_and_the_result_says_that_it_may_be(
    results: tuple[StudyResult, StudyResult], phantom: Phantom
) -> None:
    usual, _ = results
    assert usual.segmentation is not None
    assert not np.count_nonzero((usual.segmentation.mask_zyx > 0) & (phantom.truth_zyx == OLDER))
    assert "subacute_missed" in usual.limitations and SUBACUTE not in usual.limitations
    assert all(region.finding == usual.finding for region in usual.segmentation.regions)
    assert "subacute" not in usual.model.parameters


def test_the_mode_finds_it_marks_it_and_leaves_the_acute_one_as_it_is(
    results: tuple[StudyResult, StudyResult], phantom: Phantom
) -> None:
    usual, mode = results
    assert usual.segmentation is not None and mode.segmentation is not None
    core, older = mode.segmentation.regions
    mask = mode.segmentation.mask_zyx
    assert np.array_equal(mask == core.number, usual.segmentation.mask_zyx == 1)
    assert dice(mask == older.number, phantom.truth_zyx == OLDER) >= 0.85
    assert (core.finding.value, older.finding.value) == ("55641003", "52988006")
    assert older.label == "DWI-bright area, ADC not low 2"
    assert older.quantities[1].value > 750
    assert SUBACUTE in mode.limitations
    # Part of the work key and of what the algorithm's parameters say in SR and SEG.
    assert mode.model.parameters["subacute"] == "1"
    assert mode.evidence["dwi_only"] == 1
    # Its thresholds are not swept: no range.
    assert range_ml(usual.totals) is not None and range_ml(mode.totals) is None


def test_t2_shine_through_is_reported_as_what_it_may_be_and_artefacts_are_not(baseline: Model) -> None:
    phantom = make_phantom(101, lesions=[])
    assert run(baseline, phantom).outcome is Outcome.NOTHING_FOUND
    result = run(baseline, phantom, ON)
    assert result.segmentation is not None
    (region,) = result.segmentation.regions
    marked = result.segmentation.mask_zyx > 0
    kinds = {each: phantom.distractor_zyx == 1 + list(Distractor).index(each) for each in Distractor}
    assert dice(marked, kinds[Distractor.T2_SHINE_THROUGH]) > 0.8
    assert not (marked & kinds[Distractor.SUSCEPTIBILITY_RIM]).any()
    assert not (marked & kinds[Distractor.SYMMETRIC_PAIR]).any()
    assert region.finding.value == "52988006"
    text = compose(result, "en")
    assert text.impression.startswith("No restricted diffusion suggestive of acute infarct was found")
    assert "T2 shine-through, which these images cannot tell apart" in text.impression


def test_nothing_bright_is_said_as_well(baseline: Model) -> None:
    result = run(baseline, make_phantom(101, lesions=[], t2_shine_through=False), ON)
    assert result.outcome is Outcome.NOTHING_FOUND and SUBACUTE in result.limitations
    assert "Subacute mode: no area of high DWI signal without a low ADC was found." in compose(result, "en").findings
    assert "亜急性期モード：" in compose(result, "ja").findings


@pytest.mark.parametrize(
    ("language", "mode", "cannot_tell", "missed"),
    [
        ("en", "Subacute mode:", "T2 shine-through", "Infarcts older than about 10 days may be missed"),
        ("ja", "亜急性期モード：", "T2シャインスルー", "およそ10日を過ぎると"),
    ],
)
def test_the_texts_keep_both_kinds_apart(
    results: tuple[StudyResult, StudyResult], language: str, mode: str, cannot_tell: str, missed: str
) -> None:
    usual, older = compose(results[0], language), compose(results[1], language)
    assert mode not in "".join((usual.findings, usual.impression, *usual.notes))
    assert any(missed in note for note in usual.notes) and not any(missed in note for note in older.notes)
    # What is said of restricted diffusion is said of the acute infarct alone.
    total = f"{results[0].total_ml:.1f} mL"
    assert total in older.findings.split("\n")[0] and total in older.impression
    assert mode in older.findings and mode in older.impression and cannot_tell in older.impression
    assert any(note.startswith(mode) and cannot_tell in note for note in older.notes)


def test_no_model_writes_about_what_may_be_no_infarct(
    results: tuple[StudyResult, StudyResult], phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a report model, and to the check of its text, each lesion is an acute infarct."""
    writer = Registry(threads=1).get("stroke-impression-demo")
    asked: list[StudyResult] = []
    real = type(writer).write
    monkeypatch.setattr(
        type(writer), "write", lambda self, result, *rest: (asked.append(result), real(self, result, *rest))[1]
    )
    inputs = {"dwi": phantom.dwi, "adc": phantom.adc}
    for result, times in ((results[1], 0), (results[0], 1)):
        made = draft(result, "en", generator=writer, inputs=inputs)
        assert len(asked) == times and (made.author is None or times)
    assert draft(results[1], "en", generator=writer, inputs=inputs) == compose(results[1], "en")


def test_it_is_on_or_off(baseline: Model, phantom: Phantom) -> None:
    assert baseline.card.thresholds["subacute"] == 0.0
    off = run(baseline, phantom, {"subacute": "0"})
    assert SUBACUTE not in off.limitations and off.total_ml == run(baseline, phantom).total_ml
    for text in ("2", "0.5", "yes"):
        with pytest.raises(ParameterInvalid, match="subacute"):
            run(baseline, phantom, {"subacute": text})


def test_in_a_chain_the_mode_goes_to_the_finder_that_has_it(tmp_path: Path, phantom: Phantom) -> None:
    write_model(tmp_path / "medsam")
    registry = Registry([tmp_path], threads=1)
    registry.serve({"infarct-network": registry.get("infarct-network").digest}, required=False)
    result = run(registry.get("stroke-dwi-medsam"), phantom, ON)
    assert result.model.parameters["finder"] == "infarct-adc-baseline" and result.model.parameters["subacute"] == "1"
    assert "infarct-network MOD-009" in result.model.parameters["passed_over"]
    assert SUBACUTE in result.limitations and result.segmentation is not None
    assert {each.finding.value for each in result.segmentation.regions} == {"55641003", "52988006"}
    assert "Subacute mode:" in compose(result, "en").impression


def test_seeds_stay_with_the_run(results: tuple[StudyResult, StudyResult]) -> None:
    found = results[1].segmentation
    assert found is not None and found.seeds_zyx is not None
    for region in found.regions:
        assert np.count_nonzero(found.seeds_zyx & (found.mask_zyx == region.number)) >= 3
    again = load(dump(StoredResult(results[1]))).result.segmentation
    assert again is not None and again.seeds_zyx is None
    assert dump(StoredResult(results[1])) == dump(
        StoredResult(replace(results[1], segmentation=replace(found, seeds_zyx=None)))
    )
