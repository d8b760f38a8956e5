"""How far a text is: from a child's tokens to every place where somebody looks, and never a word of it."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli import app
from node.commands.text_bar import TextBar, text_bar
from node.jobs import wire
from node.jobs.executors.local import LocalExecutor
from node.jobs.progress import ProgressBoard
from node.jobs.progress_pipe import EVERY_SECONDS, ProgressPipe, TextPace
from node.report import NodeReport
from node.settings import Settings
from tests.unit.node_runtime.test_executor import HOST, ROOT, never, spec

KEYS = {"kind", "model", "tokens", "limit", "tokens_per_second"}


class Clock:
    """Seconds as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"node": {"data_dir": str(tmp_path / "data")}})


def test_the_pipe_says_numbers_a_few_times_a_second() -> None:
    ours, theirs = socket.socketpair()
    clock = Clock()
    pipe = ProgressPipe(theirs, clock)
    for text in range(2):
        for tokens in range(1, 101):
            pipe.made(f"m{text}", tokens, 100)
            clock.now += 0.125
    theirs.close()
    said = []
    while (message := wire.receive(ours)) is not None:
        said.append(message)
    ours.close()
    assert len(said) <= 2 * 12.5 / EVERY_SECONDS + 2
    assert all(set(message) == KEYS for message in said)
    assert [m["tokens"] for m in said if m["model"] == "m0"] == list(range(1, 101, 4))
    first, *others = (m["tokens_per_second"] for m in said if m["model"] == "m1")
    assert first is None and others == [pytest.approx(8.0)] * len(others)


def test_pace_starts_with_the_first_token_of_each_text() -> None:
    clock = Clock()
    pace = TextPace(clock)
    clock.now = 60.0  # reading the image
    assert pace.at(1) is None
    clock.now = 61.0
    assert pace.at(5) == pytest.approx(4.0)
    clock.now = 90.0
    assert pace.at(1) is None
    clock.now = 90.5
    assert pace.at(2) == pytest.approx(2.0)


def test_only_numbers_are_written_down(settings: Settings) -> None:
    board = ProgressBoard(settings.data_dir)
    board.note(7, {"model": "m", "tokens": 3, "limit": 9, "tokens_per_second": 2.5, "text": "Tanaka Taro"})
    kept = (settings.data_dir / "run" / "progress" / "7.json").read_text(encoding="utf-8")
    assert "Tanaka" not in kept and set(json.loads(kept)) == {"model", "tokens", "limit", "tokens_per_second", "at"}
    found = board.of(7, state="running", started_at=time.time() - 5)
    assert found is not None and found.words() == "3 of 9 tokens, 2.5/s"
    # Not of a run that is over, nor of an attempt before this one.
    assert board.of(7, state="done", started_at=0.0) is None
    assert board.of(7, state="running", started_at=time.time() + 5) is None
    assert list(NodeReport(settings, lambda: [])()["writing"]) == ["7"]
    old = settings.data_dir / "run" / "progress" / "6.json"
    old.write_text(kept)
    os.utime(old, (0, 0))
    (settings.data_dir / "run" / "progress" / "5.json").write_text("{")
    assert list(board.all()) == [6, 7]
    board.clear(7)
    assert not old.exists() and board.all() == {}


def test_where_nothing_can_be_written_a_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    board = ProgressBoard(tmp_path / "data")
    board.note(1, {"model": "m", "tokens": 1, "limit": 2, "tokens_per_second": None})
    board.clear(1)
    assert board.all() == {}


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[LocalExecutor]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made = LocalExecutor(settings, command=[sys.executable, str(HOST)])
    yield made
    made.close()


@pytest.mark.slow
def test_a_child_that_writes_is_seen_and_forgotten(
    executor: LocalExecutor, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, seen = ProgressBoard(settings.data_dir), []

    def watch() -> None:
        until = time.monotonic() + 15
        while time.monotonic() < until and len(seen) < 2:
            found = board.of(1, state="running", started_at=0.0)
            if found is not None and found.tokens not in [each.tokens for each in seen]:
                seen.append(found)
            time.sleep(0.02)
        # The room is all of this side that the child sees.
        for room in (settings.data_dir / "rooms").iterdir():
            (room / "tmp" / "seen").touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    # A model that comes with the product and has nothing to load.
    asked = spec(tmp_path, "write").model_copy(update={"model_id": "medgpt"})
    bundle = executor.run(asked, abandoned=never)
    watcher.join()
    assert bundle.outcome == "found"
    assert [each.model for each in seen] == ["writer", "writer"] and seen[0].tokens < seen[1].tokens <= 30
    assert seen[1].tokens_per_second == pytest.approx(20, rel=0.4)
    assert board.all() == {}


def test_a_bar_is_drawn_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with text_bar() as nobody:
        assert nobody is None  # standard error of a test is no terminal
    drawn = io.StringIO()
    with Progress(console=Console(file=drawn, force_terminal=True, width=80)) as progress:
        bar = TextBar(progress)
        for tokens in (1, 2, 3, 1, 2):
            bar.made("writer", tokens, 4)
        assert [(task.total, task.completed) for task in progress.tasks] == [(4, 3), (4, 2)]
    assert "writer" in drawn.getvalue()


def test_status_says_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from node.commands import status

    ProgressBoard(settings.data_dir).note(12, {"model": "m", "tokens": 3, "limit": 9, "tokens_per_second": None})
    report = NodeReport(settings, lambda: [])()
    monkeypatch.setattr(status, "ask", lambda data_dir: report)
    said = CliRunner().invoke(app, ["status"])
    assert "job 12: m writes, 3 of 9 tokens" in said.output
