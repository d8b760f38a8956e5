"""Later versions of a result and comparison with an earlier study, with the whole node and a PACS at the other end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_sr.checks.subject import concept, walk
from dicom_sr.phantom_study import PhantomStudy, write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.archive import tables
from node.archive.engine import open_store
from node.delivery import outbox
from node.delivery.delivered import remove_delivered
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.settings import load
from tests.network import tool_server
from tests.node_process import NodeProcess
from tests.peers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TEXTS = 'text_documents = "shown_as_draft"\nmaximum_series = 3'
PROFILE = '[profile.default]\nlanguages = ["en", "ja"]\nsuperseded = "rejection"\n' + TEXTS


class Scene:
    """A node and its PACS."""

    def __init__(self, folder: Path) -> None:
        self.pacs = TestPacs(folder / "pacs", port=free_port(), ae_title="PACS")
        self.pacs.start()
        self.node = NodeProcess(folder / "node", {"pacs": ("PACS", int(self.pacs._address[1]))}, extra=PROFILE)
        self.node.start()
        self.store = open_store(load(self.node.config))

    def send(self, *files: Path) -> None:
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=self.node.port, calling_ae_title="MODALITY")
        assert send_paths(peer, files).complete

    def wait_for_jobs(self, study_uid: str, *kinds: str) -> list[Any]:
        """Wait until these jobs of a study, in order, have ended, and everything of theirs is committed."""
        deadline = time.monotonic() + 100
        found: list[Any] = []
        while time.monotonic() < deadline:
            with self.store.read() as connection:
                statement = select(tables.jobs).where(tables.jobs.c.study_uid == study_uid).order_by(tables.jobs.c.id)
                found = list(connection.execute(statement))
                states = {row.state for row in outbox.list_deliveries(connection, study_uid=study_uid)}
            # Where something was on the wire when it was replaced, a note is filed, and found to be about nothing.
            made = [row for row in found if (row.result or {}).get("outcome") != "nothing_to_retract"]
            ended = [row.kind for row in made] == list(kinds) and {row.state for row in found} == {"done"}
            if ended and states <= {"committed", "withdrawn"}:
                return made
            time.sleep(0.05)
        raise AssertionError(f"{[(r.kind, r.state, r.message) for r in found]} {states}\n{self.node.log()[-3000:]}")

    def objects(self, job_id: int) -> dict[str, Dataset]:
        """Role → object of a job as the PACS holds it."""
        with self.store.read() as connection:
            rows = outbox.list_objects(connection, job_id=job_id)
        return {row.role: dcmread(self.pacs.objects[row.sop_instance_uid]) for row in rows}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("versions"))
    yield made
    made.store.close()
    made.node.stop()
    made.pacs.stop()


def phantom(folder: Path, seed: int, volume_ml: float = 30.0) -> PhantomStudy:
    lesions = (LesionSpec(volume_ml, "left"),)
    head = make_phantom(61, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6), lesions=lesions)
    return write_phantom_study(head, folder, seed=seed)


def dated(study: PhantomStudy, date: str, **attributes: str) -> PhantomStudy:
    """The same study on another day."""
    for file in study.files:
        dataset = dcmread(file)
        for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            setattr(dataset, keyword, date)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(file)
    return study


def texts(dataset: Dataset) -> str:
    return "\n".join(str(entry.TextValue) for entry in walk(dataset) if "TextValue" in entry)


def test_late_images_give_a_second_set_that_takes_the_place_of_the_first(scene: Scene, tmp_path: Path) -> None:
    study = phantom(tmp_path / "study", 71)
    late = [path for path in study.files if dcmread(path).SeriesInstanceUID == study.b0_series_uid]
    scene.send(*(path for path in study.files if path not in late))
    (first,) = scene.wait_for_jobs(study.study_uid, "run")
    before = scene.objects(first.id)
    scene.send(*late)
    first, second, note = scene.wait_for_jobs(study.study_uid, "run", "run", "retract")
    after = scene.objects(second.id)
    assert set(before) == set(after) == {"seg", "measurements", "text-en", "text-ja"}
    assert scene.pacs.conflicts == []
    uids = {each.SOPInstanceUID for each in before.values()}
    assert not uids & {each.SOPInstanceUID for each in after.values()}, "other content, other UIDs"
    for role, new in after.items():
        assert ", replaces " in new.SeriesDescription
        if new.Modality == "SR":
            (named,) = [each for each in walk(new) if "ReferencedSOPSequence" in each and _in(new, each)]
            assert [each.ReferencedSOPInstanceUID for each in named.ReferencedSOPSequence] == [
                before[role].SOPInstanceUID
            ]
    moment = second.result["replaces"]["moment"]
    assert f"This result replaces the one of {moment} (run 1)" in texts(after["text-en"])
    assert f"{len(late)} images added" in texts(after["text-en"]) and moment in texts(after["text-ja"])
    (rejection,) = scene.objects(note.id).values()
    assert concept(rejection) == "113001" and rejection.Modality == "KO"
    assert {
        each.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for each in rejection.ContentSequence
        if "ReferencedSOPSequence" in each
    } == uids
    with scene.store.read() as connection:
        rows = outbox.list_deliveries(connection, study_uid=study.study_uid)
    assert {row.replaced_by for row in rows if row.job_id == first.id} == {second.id}
    old = next(row.id for row in rows if row.job_id == first.id)
    refused = scene.node.cli("replay", str(old))
    assert refused.returncode != 0 and "was replaced by job" in refused.stderr
    story = scene.node.cli("why", study.study_uid).stdout
    assert f"replaced by job {second.id} at pacs" in story and "passed their check" in story
    # A reader rejects the first set, too: that is noted, starts nothing, and only somebody who asks gets a new run.
    rejection.SOPInstanceUID = rejection.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    rejection.SeriesInstanceUID = "2.25.4712"
    rejection.save_as(tmp_path / "rejection.dcm")
    scene.send(tmp_path / "rejection.dcm")
    deadline = time.monotonic() + 30
    while len(scene.node.rows("SELECT 1 FROM assessments")) < len(uids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assessed = scene.node.json("assessments")
    assert {each["sop_instance_uid"] for each in assessed} == uids
    assert {(each["assessment"], each["reason"], each["from"]) for each in assessed} == {
        ("rejected", "113001 DCM", "MODALITY")
    }
    time.sleep(2.0)
    assert len(scene.wait_for_jobs(study.study_uid, "run", "run", "retract")) == 3
    assert scene.node.cli("retry", str(second.id)).returncode != 0, "its result stands"
    again = scene.node.cli("retry", str(first.id))
    assert again.returncode == 0 and "a new run" in again.stdout
    third = scene.wait_for_jobs(study.study_uid, "run", "run", "retract", "run", "retract")[3]
    assert third.run == 3 and third.result["replaces"]["run"] == 2 and third.input_key == second.input_key
    assert scene.pacs.conflicts == []


def _in(dataset: Dataset, item: Dataset) -> bool:
    """Whether an item is one of the predecessor documents."""
    return any(item is each for entry in dataset.PredecessorDocumentsSequence for each in walk(entry))


def test_what_waits_is_withdrawn_when_a_later_set_comes(scene: Scene, tmp_path: Path) -> None:
    study = phantom(tmp_path / "study", 72)
    late = [path for path in study.files if dcmread(path).SeriesInstanceUID == study.b0_series_uid]
    scene.pacs.refuse = True
    scene.send(*(path for path in study.files if path not in late))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with scene.store.read() as connection:
            rows = outbox.list_deliveries(connection, study_uid=study.study_uid)
        if rows and all(row.attempts for row in rows):
            break
        time.sleep(0.05)
    scene.send(*late)
    while time.monotonic() < deadline:
        with scene.store.read() as connection:
            rows = outbox.list_deliveries(connection, study_uid=study.study_uid)
        if len({row.job_id for row in rows}) == 2:
            break
        time.sleep(0.05)
    scene.pacs.refuse = False
    first, second = scene.wait_for_jobs(study.study_uid, "run", "run")[:2]
    held = {
        dcmread(path, stop_before_pixels=True).SOPInstanceUID
        for path in scene.pacs.objects.values()
        if dcmread(path, stop_before_pixels=True).StudyInstanceUID == study.study_uid
    }
    assert held == {each.SOPInstanceUID for each in scene.objects(second.id).values()}
    with scene.store.read() as connection:
        rows = outbox.list_deliveries(connection, study_uid=study.study_uid)
    assert {row.state for row in rows if row.job_id == first.id} == {"withdrawn"}


def test_a_follow_up_is_compared_and_keeps_the_identity_of_the_lesion(scene: Scene, tmp_path: Path) -> None:
    prior = dated(phantom(tmp_path / "prior", 73, 20.0), "20260105", PatientID="FOLLOW-1", PatientName="Follow^Up")
    follow = dated(phantom(tmp_path / "now", 74, 60.0), "20260112", PatientID="FOLLOW-1", PatientName="Follow^Up")
    scene.send(*prior.files)
    (earlier,) = scene.wait_for_jobs(prior.study_uid, "run")
    # Months later the archive alone has the earlier objects.
    outbox_folder = scene.node.data / "outbox"
    later = time.time() + 40 * 86400
    removed = remove_delivered(scene.store, outbox_folder, later, keep_days=30)
    with scene.store.read() as connection:
        rows = outbox.list_objects(connection, job_id=earlier.id)
    assert removed >= 4 and not any((outbox_folder / row.path).exists() for row in rows)
    scene.send(*follow.files)
    (job,) = scene.wait_for_jobs(follow.study_uid, "run")
    comparison = job.result["comparison"]
    assert comparison["prior_study_uid"] == prior.study_uid and comparison["change"] == "larger"
    old, new = scene.objects(earlier.id), scene.objects(job.id)
    tracked = new["seg"].SegmentSequence[0].TrackingUID
    assert tracked == old["seg"].SegmentSequence[0].TrackingUID
    report = new["measurements"]
    groups = [each for each in walk(report) if concept(each) == "125007"]
    points = [
        str(entry.TextValue) for group in groups for entry in group.ContentSequence if concept(entry) == "C2348792"
    ]
    assert points == ["current", "prior"]
    assert "15454001" in [concept(entry, "ConceptCodeSequence") for entry in walk(report)]
    (evidence,) = report.PertinentOtherEvidenceSequence
    assert evidence.StudyInstanceUID == prior.study_uid
    assert old["seg"].SOPInstanceUID in [
        each.ReferencedSOPInstanceUID for each in walk(evidence) if "ReferencedSOPInstanceUID" in each
    ]
    assert "Compared with the AI result on the study of 2026-01-05" in texts(new["text-en"])
    assert "2026-01-05の検査のAI結果との比較" in texts(new["text-ja"])
    doubtful = dated(phantom(tmp_path / "other", 75), "20260113", PatientID="FOLLOW-1", PatientName="Somebody^Else")
    scene.send(*doubtful.files)
    (job,) = scene.wait_for_jobs(doubtful.study_uid, "run")
    assert job.result["not_compared"] == "identity_doubtful" and "comparison" not in job.result
    told = texts(scene.objects(job.id)["text-en"])
    assert "It was not compared: the patient identity" in told and "FOLLOW" not in scene.node.log()


LABEL_MAP = '[profile.default]\nsegmentation = "labelmap"\nsegmentation_syntax = "rle"\n' + TEXTS


@pytest.mark.peer
def test_a_destination_that_refuses_label_maps_gets_bits_without_another_run(tmp_path: Path) -> None:
    # DCMTK's storescp does not know Label Map Segmentation Storage, and so accepts no context for it.
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    with tool_server("storescp", "-od", received, port, port=port):
        node = NodeProcess(tmp_path / "node", {"dcmtk": ("DCMTK", port)}, extra=LABEL_MAP)
        node.start()
        store = open_store(load(node.config))
        try:
            study = phantom(tmp_path / "study", 76)
            peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
            assert send_paths(peer, study.files).complete
            rows = _delivered(store, node, study.study_uid, {"run", "render"})
            jobs = {row.kind: row for row in _jobs(store, study.study_uid)}
            assert "model" in jobs["run"].result["timings"] and "model" not in jobs["render"].result["timings"]
            assert jobs["render"].parent_id == jobs["run"].id
            kept = [row for row in rows if row.state != "withdrawn"]
            assert {row.job_id for row in kept} == {jobs["render"].id} and {row.role for row in kept} == {
                "seg",
                "measurements",
                "text-en",
            }
            found = [dcmread(path) for path in received.iterdir()]
            assert {each.SOPInstanceUID for each in found} == {row.sop_instance_uid for row in kept}
            (seg,) = [each for each in found if each.Modality == "SEG"]
            (report,) = [each for each in found if concept(each) == "126000"]
            assert seg.SegmentationType == "BINARY" and seg.SeriesNumber == 9000
            assert seg.SOPInstanceUID in [
                each.ReferencedSOPInstanceUID for each in walk(report) if "ReferencedSegmentNumber" in each
            ]
            # It is remembered: the next study is written as bits at once.
            second = phantom(tmp_path / "second", 77)
            assert send_paths(peer, second.files).complete
            rows = _delivered(store, node, second.study_uid, {"run"})
            assert {row.sop_class_uid for row in rows if row.role == "seg"} == {"1.2.840.10008.5.1.4.1.1.66.4"}
            assert "does not take" in node.log()
        finally:
            store.close()
            node.stop()


def _jobs(store: Any, study_uid: str) -> list[Any]:
    with store.read() as connection:
        statement = select(tables.jobs).where(tables.jobs.c.study_uid == study_uid).order_by(tables.jobs.c.id)
        return list(connection.execute(statement))


def _delivered(store: Any, node: NodeProcess, study_uid: str, kinds: set[str]) -> list[Any]:
    """Wait until these kinds of jobs are done and whatever is not withdrawn is stored."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        jobs = _jobs(store, study_uid)
        with store.read() as connection:
            rows = outbox.list_deliveries(connection, study_uid=study_uid)
        if {row.kind for row in jobs} == kinds and {row.state for row in jobs} == {"done"}:
            stored = [row for row in rows if row.state == "stored"]
            if stored and all(row.state in ("stored", "withdrawn") for row in rows):
                return rows
        time.sleep(0.05)
    raise AssertionError(
        f"{[(r.kind, r.state) for r in jobs]} {[(r.role, r.state) for r in rows]}\n{node.log()[-3000:]}"
    )
