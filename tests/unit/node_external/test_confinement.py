"""Programs that misbehave: each is refused with its own reason, and nothing of it is left running."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from models.errors import NodeError
from models.program_errors import NotIsolated, OutputTooLarge, OutputUnusable, ProgramFailed, ProgramLate
from node.external import sandbox
from tests.unit.node_external.conftest import run, write_card

pytestmark = pytest.mark.slow


def _misbehaving(tmp_path: Path, *arguments: str, **options: object) -> Path:
    return write_card(tmp_path / "bad", "misbehave.py", *arguments, **{"deadline_seconds": 20.0, **options})


def _running(mark: str) -> bool:
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in words.read_bytes():
                return True
        except OSError:
            continue  # it has just ended
    return False


def test_one_that_hangs_is_killed(tmp_path: Path, series: list[Path]) -> None:
    started = time.monotonic()
    with pytest.raises(ProgramLate, match="killed after 1 s"):
        run(_misbehaving(tmp_path, "hang", deadline_seconds=1.0), series)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("then", ["wait", "go"])
def test_what_it_forks_dies_with_it(tmp_path: Path, series: list[Path], then: str) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    with pytest.raises((ProgramLate, OutputUnusable)):
        run(_misbehaving(tmp_path, "fork", mark, then, deadline_seconds=2.0), series)
    until = time.monotonic() + 5
    while _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _running(mark)


@pytest.mark.parametrize("kind", ["noise", "seg"])
def test_one_that_writes_rubbish(tmp_path: Path, series: list[Path], kind: str) -> None:
    with pytest.raises(OutputUnusable, match=r"cannot be read|another frame"):
        run(_misbehaving(tmp_path, "rubbish", kind, no_mask="nothing_found"), series)


def test_one_that_wants_the_network_finds_none(tmp_path: Path, series: list[Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        with pytest.raises(ProgramFailed, match="unreachable"):
            run(_misbehaving(tmp_path, "network", str(server.getsockname()[1])), series)
        with pytest.raises(TimeoutError):
            server.accept()


def test_one_that_points_elsewhere(tmp_path: Path, series: list[Path]) -> None:
    with pytest.raises(OutputUnusable, match="link"):
        run(_misbehaving(tmp_path, "link"), series)


def test_one_that_floods(tmp_path: Path, series: list[Path]) -> None:
    with pytest.raises(OutputTooLarge):
        run(_misbehaving(tmp_path, "flood", maximum_output_mb=8), series)


def test_what_a_program_sees(tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINODE_SECRET", "of the node")
    monkeypatch.setattr(sandbox, "_SHOWN", 20_000)
    with pytest.raises(ProgramFailed) as caught:
        run(_misbehaving(tmp_path, "look", str(series[0]), "Secret"), series)
    seen = json.loads(caught.value.message.split(": ", 1)[1])
    assert not any("AINODE" in name or name == "DATABASE_URL" for name in seen["environment"])
    assert seen["node"] is False and seen["named"] == []  # neither the node's file, nor the patient's name in its own
    assert "home" not in seen["root"] and seen["processes"] == 2
    assert len(seen["names"]) == len(series) + 1 and "task.json" in seen["names"]
    assert int(seen["capabilities"][0].split()[1], 16) == 0
    assert seen["/tmp/data"] == seen["/opt/model"] == seen["/usr"] == 30  # EROFS


def test_without_isolation_only_where_the_site_says_so(
    tmp_path: Path, series: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that gives no namespaces: a script in the place of the real one that may not unshare."""
    source = sandbox._CONFINE.read_text().replace("_call(_LIBC.unshare(", "_call(1 + 0 * int(")
    broken = tmp_path / "confine.py"
    broken.write_text(source)
    monkeypatch.setattr(sandbox, "_CONFINE", broken)
    folder = _misbehaving(tmp_path, "report", "1.0", no_mask="nothing_found")
    with pytest.raises(NotIsolated):
        run(folder, series)
    result = run(folder, series, unisolated=["bad"])
    assert result.evidence["program"]["isolation"] == "none, allowed by the site"


def test_it_dies_with_the_model_host(tmp_path: Path, series: list[Path]) -> None:
    """The dispatcher kills a model host whose run hangs; no program may outlive it."""
    mark = f"mark-{uuid.uuid4().hex}"
    folder = _misbehaving(tmp_path, "fork", mark, "wait", deadline_seconds=60.0)
    code = (
        "import sys; from pathlib import Path; from tests.unit.node_external.conftest import run; "
        "run(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])"
    )
    words = [sys.executable, "-c", code, str(folder), *map(str, series)]
    host = subprocess.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path)})
    until = time.monotonic() + 30
    while not _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert _running(mark)
    host.kill()
    host.wait()
    until = time.monotonic() + 5
    while _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _running(mark)


def test_every_refusal_has_a_code() -> None:
    assert all(issubclass(each, NodeError) and each.code.startswith("EXT-") for each in (NotIsolated, ProgramLate))
