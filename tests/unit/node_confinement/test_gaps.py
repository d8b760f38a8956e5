"""Machines that do not allow a measure: said in words, and everything else holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dicom_sr.identity import OFFLINE
from models.errors import NodeError
from node.commands.status import _host_lines
from node.doctor.confinement import model_hosts
from node.errors import Misconfigured
from node.jobs import host_report
from node.jobs.room import Room
from node.jobs.specification import JobSpec
from node.pulse import Pulse
from node.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are measures of Linux")

ROOT = Path(__file__).resolve().parents[3]
SHUT_IN = """
import ctypes, json, os, sys
from pathlib import Path
from node.confinement import landlock, privileges, shut_in, system_calls
folder = Path(sys.argv[1])
{change}
found = shut_in.shut_in(shut_in.Plan(readable=[folder / "in"], writable=[folder / "out"], private=[folder]))
libc = ctypes.CDLL(None)
print(json.dumps({{"holds": found.holds, "gaps": found.gaps, "words": found.words,
    "secret": libc.open(str(folder / "secret").encode(), os.O_RDONLY) >= 0, "socket": libc.socket(2, 1, 0) >= 0}}))
"""


def shut_in(folder: Path, change: str) -> dict[str, Any]:
    for name in ("in", "out"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "secret").write_text("x")
    words = [sys.executable, "-P", "-c", SHUT_IN.format(change=change), str(folder)]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_without_landlock(tmp_path: Path) -> None:
    found = shut_in(tmp_path, "landlock._CREATE_RULESET = 9999")
    assert found["gaps"] == {"files": "this kernel has no landlock"} and found["secret"] and not found["socket"]
    assert "NOT shut in: files: this kernel has no landlock" in found["words"]


def test_on_an_architecture_that_is_not_known(tmp_path: Path) -> None:
    """Without the filter the namespace alone holds the network back; without both it is a gap."""
    change = "system_calls.platform.machine = lambda: 'riscv64'"
    found = shut_in(tmp_path, change)
    assert found["gaps"] == {"calls": "no list of system calls for riscv64"} and found["socket"] and not found["secret"]
    both = shut_in(tmp_path, change + "\nprivileges._NEW_NET = privileges._NEW_USER = 1")
    assert set(both["gaps"]) == {"calls", "network"} and not both["secret"]


def test_without_namespaces_no_socket_is_made_all_the_same(tmp_path: Path) -> None:
    found = shut_in(tmp_path, "privileges._NEW_NET = privileges._NEW_USER = 1")
    assert found["holds"]["network"] == "no sockets" and not found["gaps"] and not found["socket"]


def test_what_lies_below_a_needed_folder_is_told(tmp_path: Path) -> None:
    found = shut_in(tmp_path, "sys.path.append(str(folder.parent))")
    assert str(tmp_path) in found["gaps"]["files"] and found["secret"]


@pytest.mark.parametrize("copies", [False, True])
def test_an_older_landlock_gets_copies(tmp_path: Path, copies: bool) -> None:
    """Before version 3 it does not keep a file from being emptied, and a link is the spool's own file."""
    image = tmp_path / "image.dcm"
    image.write_text("pixels")
    spec = JobSpec(job_id=1, study_uid="1", rule="r", model_id="m", files=[image], profiles={}, languages=[],
                   identity=OFFLINE, output_dir=tmp_path, deadline_seconds=1.0)  # fmt: skip
    room = Room(tmp_path / "rooms", copies=copies)
    (place,) = room.admit(spec).files
    assert place.parent == room.inside and place.read_text() == "pixels"
    assert image.stat().st_nlink == (1 if copies else 2)
    room.clear()
    assert image.stat().st_nlink == 1 and not list(room.inside.iterdir())


def test_the_doctor_starts_one_and_says_how_it_is(tmp_path: Path) -> None:
    told = {"node": {"data_dir": tmp_path}}
    try:
        assert "shut in" in model_hosts(Settings.model_validate(told))
    except NodeError as error:  # a machine that does not allow everything
        assert "NOT shut in" in str(error)
    with pytest.raises(Misconfigured, match="confine is false"):
        model_hosts(Settings.model_validate({**told, "model_host": {"confine": False}}))


def test_status_says_it_of_those_that_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    facts = {"holds": {"network": "no sockets"}, "gaps": {"files": "this kernel has no Landlock"}}
    Pulse(tmp_path, "dispatcher").beat(models={}, confinement=facts)
    (found,) = host_report.model_hosts(tmp_path)
    assert found["process"] == "dispatcher" and found["gaps"] == facts["gaps"]
    (line,) = _host_lines({"model_hosts": [found, found]})
    assert line.endswith("NOT shut in: files: this kernel has no Landlock")
    assert _host_lines({}) == []
