"""The child: answers, dies, hangs, is killed with all its descendants, and never takes the dispatcher with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_sr.identity import OFFLINE
from node.errors import ChildDied, DeadlineExceeded
from node.jobs import wire
from node.jobs.executor import RunAbandoned
from node.jobs.executors import local
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import JobSpec
from node.settings import Settings

pytestmark = pytest.mark.slow

HOST = Path(__file__).with_name("fake_host.py")
ROOT = HOST.parents[3]


def spec(tmp_path: Path, rule: str = "echo", deadline_seconds: float = 20.0) -> JobSpec:
    return JobSpec(
        job_id=1,
        study_uid="1.2",
        rule=rule,
        model_id="m",
        files=[],
        profiles={},
        languages=[],
        identity=OFFLINE,
        output_dir=tmp_path,
        deadline_seconds=deadline_seconds,
    )


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    made = LocalExecutor(
        Settings.model_validate({"node": {"data_dir": tmp_path / "node"}}), command=[sys.executable, str(HOST)]
    )
    yield made
    made.close()


def never() -> bool:
    return False


def test_child_answers_stays_warm_and_knows_no_secret(executor: LocalExecutor, tmp_path: Path) -> None:
    first = executor.run(spec(tmp_path), abandoned=never)
    second = executor.run(spec(tmp_path), abandoned=never)
    assert first.summary == second.summary == {"pid": executor.child_pid, "variables": []}
    assert executor.run(spec(tmp_path, "fail"), abandoned=never).failure is not None


def test_child_has_no_network(executor: LocalExecutor, tmp_path: Path) -> None:
    assert executor.run(spec(tmp_path, "connect"), abandoned=never).summary == {
        "refused": "a model host has no network"
    }


@pytest.mark.parametrize("model", ["deadly", "endless"])
def test_a_model_that_ends_whoever_loads_it_ends_no_other_ones_run(
    model: str, executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does when it is loaded in advance, every study would have to wait for it."""
    if model == "endless":
        monkeypatch.setattr(local, "_WARM_UP_SECONDS", 8.0)
    executor._settings = Settings.model_validate(
        {
            "node": {"data_dir": tmp_path / "node"},
            "destination": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            "rule": [{"name": "r", "model": model, "destinations": ["pacs"]}],
        }
    )
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"
    child = executor.child_pid
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"
    assert executor.child_pid == child
    executor.discard()
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"


def test_death_of_the_child_is_said_and_the_next_run_works(executor: LocalExecutor, tmp_path: Path) -> None:
    with pytest.raises(ChildDied, match="SIGSEGV"):
        executor.run(spec(tmp_path, "die"), abandoned=never)
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"


def test_child_killed_between_runs(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.run(spec(tmp_path), abandoned=never)
    assert executor.child_pid
    os.kill(executor.child_pid, signal.SIGKILL)
    time.sleep(0.1)
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"


def test_deadline_kills_child_and_descendants(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.run(spec(tmp_path), abandoned=never)
    started, forked = time.monotonic(), []

    def look() -> bool:
        forked.extend(int(each.read_text() or 0) for each in (tmp_path / "node" / "rooms").glob("host-*/out/forked"))
        return False

    with pytest.raises(DeadlineExceeded):
        executor.run(spec(tmp_path, "fork-and-hang", deadline_seconds=0.9), abandoned=look)
    assert time.monotonic() - started < 3
    assert forked and forked[-1]
    until = time.monotonic() + 5
    while _alive(forked[-1]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(forked[-1])
    assert executor.run(spec(tmp_path), abandoned=never).outcome == "found"


def test_abandoned_run_is_killed(executor: LocalExecutor, tmp_path: Path) -> None:
    executor.run(spec(tmp_path), abandoned=never)
    told = threading.Event()
    threading.Timer(0.3, told.set).start()
    started = time.monotonic()
    with pytest.raises(RunAbandoned):
        executor.run(spec(tmp_path, "hang"), abandoned=told.is_set)
    assert time.monotonic() - started < 3


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from node.jobs.executors.local import LocalExecutor\n"
        "from node.settings import Settings\n"
        f"settings = Settings.model_validate({{'node': {{'data_dir': {str(tmp_path)!r}}}}})\n"
        f"executor = LocalExecutor(settings, command=[sys.executable, {str(HOST)!r}])\n"
        "assert executor.greeted(60)\n"
        "print(executor.child_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_messages_survive_any_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        message = {"kind": "x", "text": "検査" * 5000}
        threading.Thread(target=wire.send, args=(theirs, message)).start()
        assert wire.receive(ours) == message
        theirs.sendall(b"\0\0\0\x10half")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(wire.WireBroken):
            wire.receive(ours)


def test_announced_nonsense_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(wire.WireBroken, match="announced"):
            wire.receive(ours)
