"""The console in Debian's Chromium, before a whole node with an archive behind it: every process a real one."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.dicom.pacs import TestPacs
from tests.browser.viewers import installed, run_script
from tests.console import PASSCODE
from tests.network import wait_for
from tests.node_process import ROOT, NodeProcess
from tests.peers import free_port, require
from tests.unit.models_registry.conftest import write_spots

pytestmark = [pytest.mark.peer, pytest.mark.slow]

SENDER = """[node]
data_dir = "{data}"
ae_title = "MODALITY"
[destination.node]
ae_title = "AINODE"
host = "127.0.0.1"
port = {port}
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What the script saw and did."""
    installed()
    chromium, folder = require("chromium"), tmp_path_factory.mktemp("console")
    pacs = TestPacs(folder / "pacs", port=free_port(), ae_title="PACS")
    pacs.start()
    port = free_port()
    sites = write_spots(folder / "site")
    extra = (
        f'[web]\nenabled = true\nport = {port}\n[models]\nfolders = ["{sites}"]\n'
        '[profile.default]\ntext_documents = "shown_as_draft"\nmaximum_series = 3'
    )
    node = NodeProcess(folder / "node", {"pacs": ("PACS", int(pacs._address[1]))}, extra=extra)
    try:
        node.start()
        for name, role in (("ada", "administrator"), ("vera", "viewer")):
            _user(node, name, role)
        wait_for(lambda: _answers(port), "the console answers", seconds=120)
        yield run_script("console.mjs", folder, {**_study(folder, node), **_task(folder, port, chromium)})
    finally:
        node.stop()
        pacs.stop()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _user(node: NodeProcess, name: str, role: str) -> None:
    command = [sys.executable, "-m", "node", "--config", str(node.config), "user", "add", name, "--role", role]
    subprocess.run(command, input=f"{PASSCODE}\n", text=True, check=True, cwd=ROOT, capture_output=True)


def _study(folder: Path, node: NodeProcess) -> dict[str, Any]:
    phantom = make_phantom(
        5,
        shape_zyx=(24, 96, 110),
        spacing_mm_zyx=(6.0, 2.2, 2.0),
        lesions=(LesionSpec(30.0, "left"), LesionSpec(12.0, "right")),
        orientation="axial",
    )
    study = write_phantom_study(phantom, folder / "study", seed=3)
    sender = folder / "sender.toml"
    sender.write_text(SENDER.format(data=folder / "sender", port=node.port))
    send = [sys.executable, "-m", "node", "--config", str(sender), "send", "node", str(folder / "study")]
    first = dcmread(study.files[0], stop_before_pixels=True)
    return {"send": send, "studyUid": str(first.StudyInstanceUID), "accession": str(first.AccessionNumber)}


def _task(folder: Path, port: int, chromium: str) -> dict[str, Any]:
    return {
        "base": f"http://127.0.0.1:{port}",
        "chromium": chromium,
        "folder": str(folder),
        "administrator": {"name": "ada", "passcode": PASSCODE},
        "viewer": {"name": "vera", "passcode": PASSCODE},
        "model": "bright-spots",
    }


def test_a_study_is_seen_arriving_and_running_without_a_reload(seen: Any) -> None:
    assert seen["steps"]["arrivedLive"] and seen["steps"]["ranLive"]


def test_buttons_do_what_they_say(seen: Any) -> None:
    steps = seen["steps"]
    assert (steps["cancelled"], steps["retried"], steps["ran"]) == ("cancelled", "queued", "done")
    assert steps["replayed"] and steps["needsSomebody"] == 1
    assert (steps["before"], steps["after"]) == ("not approved", "approved")
    assert steps["dryRun"].startswith("infarct")
    assert steps["found"] == 1


def test_japanese(seen: Any) -> None:
    assert (seen["steps"]["language"], seen["steps"]["title"]) == ("ja", "今日")


def test_a_viewer_has_nothing_to_press(seen: Any) -> None:
    assert (seen["steps"]["viewersButtons"], seen["steps"]["signedOut"]) == (0, "/login")


def test_nothing_serious_for_axe_in_any_colours_or_width(seen: Any) -> None:
    assert seen["findings"] == []


def test_nothing_sticks_out_at_390_pixels(seen: Any) -> None:
    assert seen["overflows"] == []


def test_the_browser_has_nothing_to_complain_about(seen: Any) -> None:
    """No script error, nothing that the content security policy had to stop; only the pages that are not there."""
    assert [each for each in seen["complaints"] if "/study/9.9" not in each] == []
