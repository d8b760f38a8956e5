"""Every DICOM folder there is goes into a whole node: each file is stored or refused with a status, each study ends.

DCMTK sends what it can read, as it is; a client of plain sockets sends the rest, however broken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom import config as pydicom_config
from pydicom import dcmread

from node.archive.part10 import read_file_meta
from node.dicom.pacs import TestPacs
from node.errors import SpoolDamaged
from tests.network import MR, run_tool
from tests.node_process import NodeProcess
from tests.peers import free_port
from tests.wire import IMPLICIT, VERIFICATION, WirePeer

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(600)]

NO_DICOM = ("cxr_png_nih14", "cxr_png_lung_masks", "nifti_hippocampus_msd")
# Whatever is MR is asked of the model, which has its reasons; for the others there is no rule.
RULES = """
[[rule]]
name = "infarct"
model = "infarct-adc-baseline"
destinations = ["pacs"]
[rule.match]
modality = ["MR"]
"""


class Scene:
    """A node and its PACS."""

    def __init__(self, folder: Path) -> None:
        self.pacs = TestPacs(folder / "pacs", port=free_port(), ae_title="PACS")
        _, port = self.pacs.start()
        self.node = NodeProcess(folder / "node", {"pacs": ("PACS", port)}, rules=RULES)
        self.node.start()
        self.statuses: Counter[str] = Counter()

    def stored(self) -> set[str]:
        """SOP Instance UIDs in the index."""
        return {uid for (uid,) in self.node.rows("SELECT sop_instance_uid FROM instances")}

    def send(self, folder: Path) -> None:
        """By DCMTK, then what of it has not arrived by hand."""
        options = ["-q", "-nh", "-nuc", "-dn", "+sd", "+r", "-aec", "AINODE", "-aet", "DCMTK"]
        run_tool("dcmsend", *options, "127.0.0.1", self.node.port, folder, seconds=240)
        there = self.stored()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            sop_class, sop, syntax, content = _taken_apart(file)
            if sop in there:
                self.statuses["by DCMTK"] += 1
                continue
            with WirePeer(self.node.port, ((VERIFICATION, IMPLICIT), (sop_class, syntax)), seconds=60) as peer:
                status = peer.store(sop, content, sop_class=sop_class)
                assert status is not None, f"{folder.name}/{file.name}: neither stored nor refused"
                peer.release()
            self.statuses[f"0x{status:04X}"] += 1
            assert (status == 0) == (sop in self.stored()), f"{folder.name}/{file.name}: 0x{status:04X}"

    def settle(self) -> None:
        """Wait until every study was decided on, every run has ended, and every answer is committed."""
        waiting = (
            "SELECT count(*) FROM studies WHERE due_at IS NOT NULL AND held_reason IS NULL UNION ALL "
            "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'failed') UNION ALL "
            "SELECT count(*) FROM deliveries WHERE state NOT IN ('committed', 'withdrawn')"
        )
        deadline, quiet = time.monotonic() + 300, 0
        while quiet < 3:
            quiet = quiet + 1 if all(count == 0 for (count,) in self.node.rows(waiting)) else 0
            assert time.monotonic() < deadline, f"{self.node.rows(waiting)}\n{self.node.log()[-4000:]}"
            time.sleep(0.5)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.node.stop()
    made.pacs.stop()


def _taken_apart(file: Path) -> tuple[str, str, str, bytes]:
    """SOP class, SOP instance, transfer syntax and data set; what a file does not say is made up."""
    content = file.read_bytes()
    sop_class, sop, syntax = "", "", ""
    try:
        with file.open("rb") as stream:
            meta = read_file_meta(stream)
        sop_class, sop, syntax = meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax_uid
        content = content[meta.dataset_offset :]
    except SpoolDamaged:  # no file meta information: all of it is the data set
        pass
    with suppress(Exception):  # whatever pydicom says of a broken file: it is sent all the same
        said = dcmread(file, stop_before_pixels=True, force=True)
        # Where they differ, what the data set says is what a sender names.
        sop_class, sop = str(said.get("SOPClassUID", sop_class)), str(said.get("SOPInstanceUID", sop))
    return sop_class or MR, sop or "1.2.3.4", syntax or IMPLICIT, content


def test_every_folder_ends_as_result_refusal_or_stored(scene: Scene, shared_data: Path) -> None:
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    folders = [each for each in sorted(shared_data.iterdir()) if each.is_dir() and each.name not in NO_DICOM]
    assert len(folders) > 10
    for folder in folders:
        scene.send(folder)
    scene.settle()
    print(f"\n{dict(scene.statuses)}")

    endings = Counter()
    skipped = {uid for (uid,) in scene.node.rows("SELECT study_uid FROM ledger WHERE kind = 'rule.skipped'")}
    studies = scene.node.rows("SELECT study_uid, state, held_reason FROM studies")
    for study_uid, state, held in studies:
        runs = scene.node.rows(f"SELECT state, error_code, result FROM jobs WHERE study_uid = '{study_uid}'")
        if held is not None:
            endings["held"] += 1
        elif runs:
            assert {run[0] for run in runs} <= {"done", "dead", "cancelled"}, (study_uid, runs)
            endings["a run" if runs[-1][0] == "done" else f"no run: {runs[-1][1]}"] += 1
        else:
            assert state == "complete" and study_uid in skipped, (study_uid, state)
            endings["no rule"] += 1
    print(f"{len(studies)} studies: {dict(endings)}")
    assert endings["a run"] and endings["no rule"]
    # Each run, and each that was refused, has its answer in the PACS; nothing has stopped the node.
    answered = {uid for (uid,) in scene.node.rows("SELECT DISTINCT study_uid FROM objects")}
    assert {uid for (uid,) in scene.node.rows("SELECT study_uid FROM jobs WHERE state IN ('done', 'dead')")} == answered
    assert {"receiver", "scheduler", "dispatcher", "sender"} <= set(scene.node.roles())
    assert "Traceback" not in scene.node.log()
    assert scene.node.cli("ledger", "verify").returncode == 0
