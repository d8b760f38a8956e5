"""The range of a volume over decision thresholds: what it holds, what it costs, and that it changes nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.adapters import feed_forward
from models.card import EMBEDDED
from models.errors import CardInvalid
from models.measurement import volume_quantity
from models.model import Model
from models.phantom import LesionSpec, make_phantom
from models.results import Outcome, StudyResult
from models.sweep import matched, with_ranges
from models.volume_range import EVIDENCE, MEANING, range_ml
from tests.unit.models_infarct.agreement import run


def test_every_volume_has_a_range_and_lies_in_it(baseline: Model) -> None:
    phantom = make_phantom(9)
    result = run(baseline, phantom)
    assert result.segmentation is not None and result.total_ml is not None
    total = range_ml(result.totals)
    assert total is not None and total[0] < result.total_ml < total[1]
    for region in result.segmentation.regions:
        limits = range_ml(region.quantities)
        assert limits is not None and limits[0] <= region.volume_ml <= limits[1]
        assert all(each.interval is None for each in region.quantities[1:])
    meaning = result.totals[0].interval_meaning
    assert meaning.startswith(MEANING) and "no confidence interval" in meaning
    for name, swept in baseline.card.sweep.thresholds.items():  # type: ignore[union-attr]
        assert result.evidence[EVIDENCE][name] == [swept.strict, swept.lax]
        assert f"{name} {swept.strict:g} to {swept.lax:g}" in meaning


def test_a_sweep_changes_nothing_else_and_runs_no_graph(baseline: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = make_phantom(9)
    asked: list[str] = []
    session = baseline.session
    monkeypatch.setattr(baseline, "session", lambda name: asked.append(name) or session(name))
    with_sweep = run(baseline, phantom)
    assert sorted(asked) == ["evidence", "main", "smooth"]
    monkeypatch.setattr(baseline, "card", baseline.card.model_copy(update={"sweep": None}))
    without = run(baseline, phantom)
    assert with_sweep.segmentation is not None and without.segmentation is not None
    assert np.array_equal(with_sweep.segmentation.mask_zyx, without.segmentation.mask_zyx)
    assert with_sweep.total_ml == without.total_ml and with_sweep.limitations == without.limitations
    assert {k: v for k, v in with_sweep.evidence.items() if k != EVIDENCE} == without.evidence
    assert without.totals == (volume_quantity(without.total_ml or 0.0),)


def test_the_range_is_what_a_card_with_those_thresholds_would_have_found(baseline: Model) -> None:
    """The bounds are volumes of real runs, each with its own thresholds."""
    phantom = make_phantom(11, lesions=[LesionSpec(15.0, "left")])
    result = run(baseline, phantom)
    assert baseline.card.sweep is not None
    volumes = []
    for setting in baseline.card.sweep.settings:
        other = Model(baseline.folder, threads=1)
        other.card = baseline.card.model_copy(
            update={"sweep": None, "thresholds": {**baseline.card.thresholds, **setting}}
        )
        volumes.append(run(other, phantom).total_ml)
    assert range_ml(result.totals) == pytest.approx(tuple(volumes))


def test_nothing_found_has_no_range(baseline: Model) -> None:
    result = run(baseline, make_phantom(101, lesions=[]))
    assert result.outcome is Outcome.NOTHING_FOUND
    assert range_ml(result.totals) is None and EVIDENCE not in result.evidence


def test_a_sweep_is_a_small_part_of_the_run(baseline: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the thread's own processor time, which neighbours hardly lengthen: a tenth of the run at most, or 50 ms."""
    phantom = make_phantom(9)
    spent: list[float] = []

    def timed(*given: Any) -> StudyResult:
        begun = time.thread_time()
        result = with_ranges(*given)
        spent.append(time.thread_time() - begun)
        return result

    monkeypatch.setattr(feed_forward, "with_ranges", timed)
    runs = []
    for _ in range(3):
        begun = time.thread_time()
        assert range_ml(run(baseline, phantom).totals) is not None
        runs.append(time.thread_time() - begun)
    assert min(spent) < max(0.05, 0.1 * min(runs))


def test_regions_are_matched_only_where_there_is_no_doubt() -> None:
    #                    1 grows     2 is gone     3 falls apart       4 and 5 grow together   one is new
    before = np.array([[[1, 1, 0, 0, 2, 2, 0, 0, 3, 3, 3, 3, 0, 0, 4, 0, 5, 0, 0, 0]]], np.uint8)
    after_ = np.array([[[7, 7, 7, 0, 0, 0, 0, 0, 1, 0, 2, 2, 0, 0, 3, 3, 3, 0, 9, 9]]], np.uint8)
    found = matched(before, after_, 0.5)
    assert found.of_regions_ml == {1: 1.5, 2: 0.0, 3: 1.5}
    assert found.total_ml == 0.5 * np.count_nonzero(after_)
    assert matched(before, np.zeros_like(before), 0.5).of_regions_ml == dict.fromkeys(range(1, 6), 0.0)


@pytest.mark.parametrize(
    ("said", "instead", "words"),
    [
        ("score_margin = { strict", "other_name = { strict", "no such threshold: other_name"),
        ("lax = -0.06", "lax = 0.02", "does not lie between"),
        ('family = "feed_forward"', 'family = "promptable"', "no thresholds to move"),
    ],
)
def test_a_sweep_that_fits_no_threshold_is_refused(tmp_path: Path, said: str, instead: str, words: str) -> None:
    folder = tmp_path / "infarct"
    folder.mkdir()
    card = (EMBEDDED / "infarct-adc-baseline" / "model.toml").read_text()
    assert said in card
    (folder / "model.toml").write_text(card.replace(said, instead))
    with pytest.raises(CardInvalid, match=words):
        _ = Model(folder)._adapter


def test_what_only_scores_has_no_volume_to_sweep(tmp_path: Path) -> None:
    folder = tmp_path / "infarct"
    folder.mkdir()
    card = (EMBEDDED / "infarct-adc-baseline" / "model.toml").read_text()
    (folder / "model.toml").write_text(card + '\n[options]\noutput = "embedding"\n')
    with pytest.raises(CardInvalid, match="embedding has none"):
        _ = Model(folder)._adapter
