"""An idle host asks its models their known answers once a day; the tests' clock says when that is over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.card import file_digest
from models.golden import write_golden
from node.errors import ChildDied
from node.jobs.executors.local import LocalExecutor
from node.jobs.idle_tests import DUE_SECONDS, IdleTests, Turn
from node.settings import Settings
from tests.unit.models_registry.conftest import write_spots
from tests.unit.models_registry.test_self_test import NORMAL

ROOT = Path(__file__).resolve().parents[3]
PACS = {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}}


class Site:
    """Two models that rules name, in a real host; ``first`` has a known answer that the test can make wrong."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        for name in ("first", "second"):
            write_spots(folder / name)
            shutil.move(folder / name / "spots", folder / "site" / name)
            card = folder / "site" / name / "model.toml"
            golden = card.with_name("golden.npz")
            write_golden(golden, {"normal": NORMAL}, {"score": NORMAL - 2})
            table = f'[golden.main]\nfile = "golden.npz"\nsha256 = "{file_digest(golden)}"\n\n[thresholds]'
            card.write_text(card.read_text().replace("[thresholds]", table).replace("bright-spots", name))
        self.golden = folder / "site" / "first" / "golden.npz"
        rules = [{"name": name, "model": name, "destinations": ["pacs"]} for name in ("first", "second")]
        content = {"node": {"data_dir": folder / "node"}, "models": {"folders": [folder / "site"]}, "rule": rules}
        self.settings = Settings.model_validate({**content, "destination": PACS, "jobs": {"threads": 1}})
        self.executor = self.new_executor()

    def new_executor(self) -> LocalExecutor:
        return LocalExecutor(self.settings, clock=lambda: self.now)

    def ready(self, executor: LocalExecutor) -> None:
        executor.start()
        until = time.monotonic() + 60
        while not executor.models and time.monotonic() < until:
            time.sleep(0.02)
        assert {name: each["passed"] for name, each in executor.models.items()} == {"first": True, "second": True}

    def rounds(self) -> int:
        """Let the host do what is due; how many models were asked."""
        asked = 0
        while self.executor.test_when_idle(dict):
            asked += 1
            until = time.monotonic() + 30
            while self.executor.test_when_idle(dict) and time.monotonic() < until:
                time.sleep(0.02)
        return asked

    def passed(self, model: str) -> bool:
        return self.executor.models[model]["passed"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = Site(tmp_path)
    yield made
    made.executor.close()


@pytest.mark.slow
def test_a_device_that_begins_to_answer_wrong_is_found_out_without_a_study(site: Site) -> None:
    site.ready(site.executor)
    child = site.executor.child_pid
    # What it will answer tomorrow is not what it should.
    right = site.golden.read_bytes()
    write_golden(site.golden, {"normal": NORMAL}, {"score": np.full_like(NORMAL, 7.0)})
    site.now += DUE_SECONDS - 1
    assert site.rounds() == 0 and site.passed("first")
    site.now += 2
    assert site.rounds() == 2
    assert (site.passed("first"), site.passed("second")) == (False, True)
    site.golden.write_bytes(right)
    assert site.rounds() == 0
    site.now += 3600
    assert site.rounds() == 1 and site.passed("first")
    assert site.executor.child_pid == child
    site.now += DUE_SECONDS
    assert site.executor.test_when_idle(dict) and child is not None
    os.kill(child, signal.SIGKILL)
    with pytest.raises(ChildDied):
        while site.executor.test_when_idle(dict):
            time.sleep(0.02)
    assert not site.executor.test_when_idle(dict)


@pytest.mark.slow
def test_only_one_host_of_a_machine_is_asked_at_a_time(site: Site) -> None:
    other = site.new_executor()
    try:
        for each in (site.executor, other):
            site.ready(each)
        site.now += DUE_SECONDS
        assert site.executor.test_when_idle(dict) and not other.test_when_idle(dict)
        site.executor.discard()
        assert other.test_when_idle(dict), "a host that is gone holds nobody up"
        assert not site.executor.test_when_idle(dict), "there is none to ask"
    finally:
        other.close()


def test_the_one_that_waits_longest_is_next() -> None:
    now = [0.0]
    idle = IdleTests(["a", "b"], clock=lambda: now[0])
    assert idle.next() is None
    now[0] = DUE_SECONDS
    assert idle.next() == "a"
    idle.asked("a", passed=False)
    assert idle.next() == "b"
    idle.asked("b", passed=True)
    assert idle.next() is None
    now[0] += 3600
    assert idle.next() == "a"


def test_the_turn_is_the_machines(tmp_path: Path) -> None:
    one, two = Turn(tmp_path), Turn(tmp_path)
    assert one.take() and not two.take()
    one.give()
    assert two.take() and not one.take()
