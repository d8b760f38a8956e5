"""How long a run may take: the rule's word, else the card's, else the node's; and a run that takes longer is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_sr.phantom_study import write_phantom_study
from models.card import CARD_FILE
from models.phantom import make_phantom
from node.identity import load_identity
from node.jobs import queue
from node.jobs.briefing import Briefing
from node.jobs.deadlines import Deadlines
from tests.integration.test_node_jobs import ROOT, Bench
from tests.unit.models_registry.conftest import write_spots


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    return write_spots(tmp_path / "site")


def state(catalogue: Path, name: str, seconds: float | None) -> None:
    """Give the model ``name`` of a catalogue a deadline of its own."""
    path = catalogue / name / CARD_FILE
    text = path.read_text(encoding="utf-8").split("\n[runtime]\n")[0]
    if seconds is not None:
        text += f"\n[runtime]\ndeadline_seconds = {seconds}\n"
    beside = path.with_name("new.toml")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def test_cards_say_how_long(spots: Path) -> None:
    write_spots(spots.parent / "more")
    (spots.parent / "more" / "spots").rename(spots / "texts")
    card = spots / "texts" / CARD_FILE
    card.write_text(card.read_text().replace('id = "bright-spots"', 'id = "texts"'))
    deadlines = Deadlines([spots], 600.0)
    assert deadlines.of(["bright-spots"]) == 600.0
    state(spots, "spots", 30.0)
    assert deadlines.of(["bright-spots"]) == 30.0
    # One of two says nothing: what is known of it is the node's limit.
    assert deadlines.of(["bright-spots", "texts"]) == 600.0
    state(spots, "texts", 900.0)
    assert deadlines.of(["bright-spots", "texts"]) == 930.0
    state(spots, "spots", None)
    assert deadlines.of(["bright-spots", "texts"]) == 900.0
    assert deadlines.of(["not-installed"]) == 600.0
    card.write_text("no card")
    assert deadlines.of(["texts"]) == 600.0


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    phantom = make_phantom(5, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    return write_phantom_study(phantom, tmp_path / "phantom", seed=5).files


@pytest.fixture
def bench(
    tmp_path: Path, spots: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    extra = f'{request.param}\n[models]\nfolders = ["{spots}"]\nrequire_approval = false\n'
    made = Bench(tmp_path, "hang", extra, model="bright-spots")
    yield made
    made.executor.close()
    made.store.close()


@pytest.mark.parametrize("bench", [""], indirect=True)
def test_the_card_ends_a_run_that_its_rule_leaves_open(bench: Bench, spots: Path, files: tuple[Path, ...]) -> None:
    state(spots, "spots", 0.5)
    bench.receive(files)
    started = time.monotonic()
    assert bench.dispatcher.run_once()
    job = bench.job(1)
    assert time.monotonic() - started < 30 and (job.state, job.error_code) == ("failed", "JOB-001")
    assert job.specification["deadline_seconds"] == 600.0


@pytest.mark.parametrize("bench", ["deadline_seconds = 77.0"], indirect=True)
def test_the_rule_goes_first(bench: Bench, spots: Path, files: tuple[Path, ...], tmp_path: Path) -> None:
    state(spots, "spots", 0.5)
    bench.receive(files)
    assert bench.job(1).specification["deadline_by"] == "rule"
    briefing = Briefing(bench.settings, bench.store, load_identity(bench.settings))
    with bench.store.write() as connection:
        leased = queue.lease(connection, time.time(), owner="test", lease_seconds=60.0)
    assert leased is not None and briefing.specify(leased, tmp_path / "run").deadline_seconds == 77.0
