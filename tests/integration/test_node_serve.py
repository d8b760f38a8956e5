"""The whole node, every process a real one, with a PACS at the other end."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_sr.phantom_study import PhantomStudy, write_phantom_study
from models.phantom import make_phantom
from node.archive import index
from node.archive.engine import open_store
from node.delivery import outbox
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.jobs import queue
from node.settings import load
from tests.node_process import NodeProcess
from tests.peers import free_port

pytestmark = pytest.mark.timeout(120)

RESULTS = {"SEG", "SR"}


class Scene:
    """A node and its PACS."""

    def __init__(self, folder: Path) -> None:
        self.pacs = TestPacs(folder / "pacs", port=free_port(), ae_title="PACS")
        self.pacs.start()
        self.node = NodeProcess(folder / "node", {"pacs": ("PACS", int(self.pacs._address[1]))})
        self.node.start()
        self.store = open_store(load(self.node.config))

    def send(self, *files: Path) -> None:
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=self.node.port, calling_ae_title="MODALITY")
        assert send_paths(peer, files).complete

    def wait_for(self, study_uid: str, state: str = "committed", *, roles: set[str]) -> list[dict[str, Any]]:
        """Wait until the study's deliveries are those expected, all in one state."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with self.store.read() as connection:
                found = [row._asdict() for row in outbox.list_deliveries(connection, study_uid=study_uid)]
            if {each["role"] for each in found} == roles and all(each["state"] == state for each in found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{found}\n{self.node.log()[-3000:]}")

    def held_by_pacs(self, study_uid: str) -> list[Any]:
        headers = [dcmread(path, stop_before_pixels=True) for path in self.pacs.objects.values()]
        return [each for each in headers if each.StudyInstanceUID == study_uid]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("serve"))
    yield made
    made.store.close()
    started = time.monotonic()
    made.node.stop()
    assert time.monotonic() - started < 5.0, "an idle node stops within a few seconds"
    made.pacs.stop()


def phantom(folder: Path, seed: int) -> PhantomStudy:
    volume = make_phantom(seed, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    return write_phantom_study(volume, folder, seed=seed)


def test_study_in_results_out(scene: Scene, tmp_path: Path) -> None:
    study = phantom(tmp_path / "study", 21)
    scene.send(*study.files)
    deliveries = scene.wait_for(study.study_uid, roles={"seg", "measurements", "text-en"})
    assert {each.Modality for each in scene.held_by_pacs(study.study_uid)} == RESULTS
    assert scene.pacs.conflicts == []
    status = scene.node.json("status")
    assert all(process["running"] for process in status["processes"])
    story = scene.node.cli("why", study.study_uid).stdout
    for words in (
        "received from MODALITY",
        "ended orderly",
        "rule infarct matched",
        "finished: found",
        "commitment answered",
    ):
        assert words in story, story
    assert scene.node.cli("ledger", "verify").returncode == 0
    # Offline the same configuration gives the same bytes.
    done = scene.node.cli("process", str(tmp_path / "study"), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    offline = {each["role"]: each["digest"] for each in json.loads(done.stdout)["objects"]}
    outbox = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (scene.node.data / "outbox").rglob("*.dcm")}
    assert set(offline) == {each["role"] for each in deliveries}
    assert set(offline.values()) <= outbox


def test_missing_slice_is_refused_with_a_status_object(scene: Scene, tmp_path: Path) -> None:
    study = phantom(tmp_path / "study", 22)
    slices = [path for path in study.files if dcmread(path).SeriesInstanceUID == study.dwi_series_uid]
    scene.send(*(path for path in study.files if path != slices[5]))
    scene.wait_for(study.study_uid, roles={"status"})
    (status,) = scene.held_by_pacs(study.study_uid)
    assert status.Modality == "SR"
    story = scene.node.cli("why", study.study_uid).stdout
    assert "SER-002" in story and "mm" in story, story


def test_two_patients_in_one_study_are_held(scene: Scene, tmp_path: Path) -> None:
    study = phantom(tmp_path / "study", 23)
    mixed = dcmread(study.files[0])
    mixed.PatientID = "SOMEBODY-ELSE"
    mixed.save_as(study.files[0])
    scene.send(*study.files)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with scene.store.read() as connection:
            if index.list_studies(connection, held=True):
                break
        time.sleep(0.05)
    (held,) = scene.node.json("studies", "--held")
    assert held["study_uid"] == study.study_uid and "SOMEBODY" not in held["held"]
    released = scene.node.cli("release", study.study_uid)
    assert released.returncode == 1 and "JOB-004" in released.stderr
    assert not [
        job for job in scene.node.json("jobs") if job["study_uid"] == study.study_uid and job["state"] != "cancelled"
    ]
    assert "STUDY HELD" in scene.node.log() and "SOMEBODY" not in scene.node.log()
    time.sleep(2.5)
    assert [each["study_uid"] for each in scene.node.json("status")["summary"]["held"]] == [study.study_uid]


@pytest.mark.parametrize("victim", ["child", "dispatcher"])
def test_kill_during_the_run_gives_one_set(scene: Scene, tmp_path: Path, victim: str) -> None:
    study = phantom(tmp_path / "study", 24 + len(victim))
    scene.send(*study.files)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with scene.store.read() as connection:
            if [job for job in queue.list_jobs(connection, study_uid=study.study_uid) if job.state == "running"]:
                break
        time.sleep(0.01)
    assert scene.node.kill(victim)
    scene.wait_for(study.study_uid, roles={"seg", "measurements", "text-en"})
    assert len(scene.held_by_pacs(study.study_uid)) == 3
    with scene.store.read() as connection:
        (job,) = queue.list_jobs(connection, study_uid=study.study_uid)
    # One where the run, of half a second, had ended in the moment before the kill.
    assert job.attempts in (1, 2)
    assert scene.pacs.conflicts == []


def test_a_second_node_in_the_same_folder_is_refused(scene: Scene) -> None:
    done = scene.node.cli("serve")
    assert done.returncode == 1 and "is running" in done.stderr
