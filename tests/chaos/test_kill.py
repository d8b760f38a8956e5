"""kill -9 of any process at any moment: every acknowledged image is there, each result arrives exactly once.

Peers: Orthanc, and a recorder that notes a UID with other bytes or a second object of one role.
``AINODE_CHAOS_RUNS`` and ``AINODE_CHAOS_SEED`` choose length and repetition.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_sr.phantom_study import PhantomStudy, write_phantom_study
from models.phantom import make_phantom
from tests.chaos.durability_page import Findings
from tests.chaos.modality import send_until_acknowledged
from tests.chaos.recorder import Recorder
from tests.node_process import NodeProcess
from tests.orthanc_peer import Orthanc, running_orthanc
from tests.peers import free_port

# Five of each in `make chaos`; the ordinary suite has no two minutes for it.
RUNS = int(os.environ.get("AINODE_CHAOS_RUNS", "30" if os.environ.get("AINODE_PUBLISH") else "18"))
SEED = int(os.environ.get("AINODE_CHAOS_SEED", "20261122"))
VICTIMS = ("receiver", "dispatcher", "child", "sender", "scheduler", "all")
TITLE = "kill -9 of the node's processes at a random moment"
COLUMNS = (
    "killed",
    "runs",
    "images acknowledged",
    "present and indexed",
    "results frozen",
    "in each of two archives, once",
    "a UID with other bytes, or a second object of a role",
)
WINDOW_SECONDS = 2.0
"""A run from first image to commitment takes about this long; the kill falls anywhere within."""

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(1500)]


@dataclass
class Scene:
    node: NodeProcess
    orthanc: Orthanc
    recorder: Recorder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("chaos")
    node_port, recorder_port = free_port(), free_port()
    with running_orthanc(folder / "orthanc", node_port=node_port) as orthanc:
        recorder = Recorder(recorder_port, node_port)
        recorder.start()
        node = NodeProcess(
            folder / "node",
            {"orthanc": (orthanc.ae_title, orthanc.port), "recorder": (recorder.ae_title, recorder.port)},
            port=node_port,
            # An association that died does not end a study: only the long quiet does, and the sender is back by then.
            arrival="quiet_seconds = 6.0\nassociation_end_quiet_seconds = 0.3",
        )
        try:
            node.start()
            yield Scene(node, orthanc, recorder)
        finally:
            node.stop()
            recorder.stop()


def test_kill_minus_nine(scene: Scene, tmp_path: Path, findings: Findings) -> None:
    dice = random.Random(SEED)
    rows = []
    for run in range(RUNS):
        victim = VICTIMS[run % len(VICTIMS)]
        study = _study(tmp_path / f"study{run}", seed=SEED + run)
        delay = dice.uniform(0.0, WINDOW_SECONDS)
        started = time.monotonic()
        killer = threading.Thread(target=_kill_after, args=(scene.node, victim, delay))
        killer.start()
        acknowledged = send_until_acknowledged(study.files, scene.node.port)
        killer.join()
        objects = _wait_for_results(scene, study.study_uid)
        rows.append((run, victim, delay, len(acknowledged), len(objects), time.monotonic() - started))
        assert _indexed(scene.node, study.study_uid) >= set(acknowledged)
        assert not scene.recorder.violations
    print("\nrun  victim      kill at s  images kept  results  s to committed")
    for row in rows:
        print("{:3d}  {:10s}  {:8.2f}  {:11d}  {:7d}  {:8.1f}".format(*row))
    for victim in VICTIMS[: len(rows)]:
        mine = [row for row in rows if row[1] == victim]
        images, results = sum(row[3] for row in mine), sum(row[4] for row in mine)
        # Asserted above for each run: every image indexed and whole, every result once in both archives.
        findings.add(
            TITLE, COLUMNS, victim, len(mine), images, images, results, results, len(scene.recorder.violations)
        )


def _study(folder: Path, seed: int) -> PhantomStudy:
    phantom = make_phantom(seed, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    return write_phantom_study(phantom, folder, seed=seed)


def _kill_after(node: NodeProcess, victim: str, delay_seconds: float) -> None:
    time.sleep(delay_seconds)
    if victim == "all":
        node.kill_all()
        node.start()
        return
    deadline = time.monotonic() + 5
    while not node.kill(victim) and time.monotonic() < deadline:
        time.sleep(0.02)


def _wait_for_results(scene: Scene, study_uid: str, timeout_seconds: float = 120.0) -> dict[str, str]:
    """Wait until every frozen object of the study is committed at both peers, then look inside them."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        states = _deliveries(scene.node, study_uid)
        if states and all(state == "committed" for _, _, state in states):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"not committed in time: {_deliveries(scene.node, study_uid)}\n{scene.node.log()[-4000:]}")
    recorded = scene.recorder.objects_of(study_uid)
    frozen = {uid for uid, _, _ in states}
    assert set(recorded.values()) == frozen
    kept = {}
    sources = _indexed(scene.node, study_uid)
    for instance in scene.orthanc.find("Instance", StudyInstanceUID=study_uid):
        content = scene.orthanc.file(instance["ID"])
        uid = str(dcmread(io.BytesIO(content), stop_before_pixels=True).SOPInstanceUID)
        assert uid not in sources
        kept[uid] = hashlib.sha256(content).hexdigest()
    assert set(kept) == frozen
    return recorded


def _deliveries(node: NodeProcess, study_uid: str) -> list[tuple[str, str, str]]:
    query = (
        "SELECT d.sop_instance_uid, d.destination, d.state FROM deliveries d JOIN objects o "
        "ON o.sop_instance_uid = d.sop_instance_uid WHERE o.study_uid = ?"
    )
    return node.rows(query, study_uid)


def _indexed(node: NodeProcess, study_uid: str) -> set[str]:
    """SOP Instance UIDs that the index has and whose file is whole."""
    found = set()
    for uid, path, size in node.rows(
        "SELECT sop_instance_uid, path, size FROM instances WHERE study_uid = ?", study_uid
    ):
        file = node.data / "spool" / path
        assert file.stat().st_size >= size > 0
        assert str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) == uid
        found.add(uid)
    return found
