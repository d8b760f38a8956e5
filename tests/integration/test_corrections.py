"""Corrections of identity: six kinds, each before, during and after the run.

Receiver, scheduler, dispatcher, sender and two PACS in this process. A run renders a real object from the headers.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from models.registry import Registry
from node import correction
from node.archive import index, tables
from node.delivery import outbox
from node.delivery.courier import Courier
from node.dicom.association import ClientAssociation
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import proposals_of, read_object_file, send_object
from node.doorbell import SENDER, ring
from node.errors import UsageError
from node.identity import load_identity
from node.jobs import execution, queue
from node.jobs.dispatcher import Dispatcher
from node.jobs.specification import Failure, JobSpec, ResultBundle
from node.planning import HALF_CORRECTED, leave_out_stragglers
from node.schedule import Scheduler
from node.why import tell
from tests.chaos.durability_page import Findings
from tests.network import Node, instance, running_node, running_sender, uid, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

IMAGES = 4
OTHER_STUDY = uid("other study")
FIRST = {"PatientID": "TEMP-0001", "PatientName": "Yamda^Taro", "AccessionNumber": "ACC-OLD-7"}
MERGED = {"PatientID": "REAL-4711", "PatientName": "Yamada^Taro", "PatientBirthDate": "19500102"}
# Kind → identities in the order in which they come; the last one is the correction.
KINDS: dict[str, list[dict[str, str]]] = {
    "temporary-id": [FIRST, {**FIRST, "PatientID": "REAL-4711"}],
    "name-typo": [FIRST, {**FIRST, "PatientName": "Yamada^Taro"}],
    "merge": [FIRST, {**FIRST, **MERGED}],
    "un-merge": [FIRST, {**FIRST, **MERGED}, FIRST],
    "accession": [FIRST, {**FIRST, "AccessionNumber": "ACC-NEW-8"}],
    "other-study": [FIRST, {**FIRST, "StudyInstanceUID": OTHER_STUDY}],
}
ATTRIBUTES = {
    "temporary-id": {"patient_id"},
    "name-typo": {"patient_name"},
    "merge": {"patient_id", "patient_name", "patient_birth_date"},
    "un-merge": {"patient_id", "patient_name", "patient_birth_date"},
    "accession": {"accession_number"},
    "other-study": {"study_instance_uid"},
}


WORDS = {
    "temporary-id": "temporary Patient ID becomes the real one",
    "name-typo": "Patient's Name corrected",
    "merge": "two patients merged",
    "un-merge": "merged, and taken apart again",
    "accession": "Accession Number corrected",
    "other-study": "images moved to another study",
}
COLUMNS = (
    "correction",
    "runs taken back",
    "results sent before it",
    "old identity sent after it",
    "new identity at its destinations",
    "one UID with two contents",
    "old copies kept",
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "corrections.md"


class HeadersOnly:
    """An executor whose runs give a status object with the identity of their images; ``during`` happens meanwhile."""

    def __init__(self) -> None:
        self.during: Callable[[], None] | None = None
        self._registry = Registry()

    def start(self) -> None: ...
    def discard(self) -> None: ...
    def close(self) -> None: ...

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        reason = Failure(code="TEST-001", message="no model runs in this test")
        bundle = execution.execute(spec.model_copy(update={"status_only": reason}), self._registry)
        during, self.during = self.during, None
        if during is not None:
            during()
        return bundle


class Scene:
    """The node's parts, two PACS of which the second is full at first, and a study of four images."""

    def __init__(self, node: Node, folder: Path, pacs: TestPacs, full: TestPacs) -> None:
        self.node, self.pacs, self.full = node, pacs, full
        self.folder = folder
        self.executor = HeadersOnly()
        self.scheduler = Scheduler(node.settings, node.store)
        self.dispatcher = Dispatcher(node.settings, node.store, self.executor, load_identity(node.settings))
        self._written = 0

    def images(self, identity: dict[str, str]) -> list[Path]:
        self._written += 1
        folder = self.folder / "images" / str(self._written)
        dates = {"StudyDate": "20240101", "StudyTime": "120000"}
        return [instance(folder, number, **{**dates, **identity}) for number in range(IMAGES)]

    def send(self, files: Sequence[Path], half_way: Callable[[], None] | None = None) -> None:
        """Send over one association, with a pause in the middle."""
        objects = [read_object_file(file) for file in files]
        with ClientAssociation(self.node.peer(), proposals_of(objects)) as association:
            for number, each in enumerate(objects, start=1):
                if half_way is not None and number == len(objects) // 2 + 1:
                    half_way()
                send_object(association, each, message_id=number)

    def correct(self, identity: dict[str, str]) -> None:
        """Send the corrected images; while half of them have come, nothing runs and nothing is held."""
        jobs = len(self.jobs())

        def half_way() -> None:
            time.sleep(0.15)
            self.scheduler.look()
            assert len(self.jobs()) == jobs
            assert {job.state for job in self.jobs()} <= {"done", "cancelled"}
            with self.node.store.read() as connection:
                assert index.list_studies(connection, held=True) == []

        self.send(self.images(identity), half_way)

    def settle(self, study_uid: str) -> None:
        """Let the scheduler look until the study is complete."""

        def complete() -> bool:
            self.scheduler.look()
            with self.node.store.read() as connection:
                study = index.study(connection, study_uid)
            return study is not None and study.state == "complete" and study.due_at is None

        wait_for(complete, "a complete study")

    def work(self) -> None:
        """Run what is queued and tell the sender."""
        while self.dispatcher.run_once():
            pass
        ring(self.node.settings.data_dir / "run", SENDER)

    def jobs(self) -> list[Any]:
        with self.node.store.read() as connection:
            return sorted(queue.list_jobs(connection), key=lambda job: job.id)

    def deliveries(self) -> list[Any]:
        with self.node.store.read() as connection:
            return sorted(outbox.list_deliveries(connection), key=lambda row: row.id)

    def state_of(self, destination: str) -> list[str]:
        return [row.state for row in self.deliveries() if row.destination == destination]

    def held_reason(self, study_uid: str) -> str | None:
        with self.node.store.read() as connection:
            study = index.study(connection, study_uid)
        return study.held_reason if study is not None else None

    def why(self, study_uid: str) -> str:
        with self.node.store.read() as connection:
            return tell(connection, study_uid)


@contextmanager
def stage(folder: Path, *, further: dict[str, Any] | None = None, **arrival: float) -> Iterator[Scene]:
    """The scene, with ``further`` sections of the configuration."""
    pacs, full = TestPacs(folder / "pacs"), TestPacs(folder / "full", refuse=True)
    facts = {"ae_title": "TESTPACS", "host": "127.0.0.1", "commitment": False}
    retries = {"retry_seconds": 0.1, "retry_ceiling_seconds": 0.2, "maximum_attempts": 1000}
    rules = [{"name": "all", "model": "none", "destinations": ["pacs", "full"]}]
    waits = {"quiet_seconds": 8.0, "association_end_quiet_seconds": 0.05, **arrival}
    with pacs.running() as (_, port), full.running() as (_, full_port):
        destinations = {"pacs": {**facts, **retries, "port": port}, "full": {**facts, **retries, "port": full_port}}
        more = dict(further or {})
        destinations |= more.pop("destination", {})
        sections = {"destination": destinations, "rule": rules, "arrival": waits, **more}
        with running_node(folder, **sections, delivery={"breaker_failures": 1000}) as node:
            scene = Scene(node, folder, pacs, full)
            with running_sender(node.settings, node.store):
                yield scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with stage(tmp_path) as made:
        yield made


def _identity(path: Path) -> dict[str, str]:
    header = dcmread(path, stop_before_pixels=True)
    names = ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID")
    return {name: str(header.get(name, "") or "") for name in names}


def _expected(identity: dict[str, str]) -> dict[str, str]:
    return {"PatientBirthDate": "", "StudyInstanceUID": uid("s"), **identity}


def _no_patient_in_the_ledger(scene: Scene) -> None:
    with scene.node.store.read() as connection:
        told = json.dumps([row.detail for row in connection.execute(select(tables.ledger))], ensure_ascii=False)
    for value in ("TEMP-0001", "REAL-4711", "Yamda", "Yamada", "ACC-OLD-7", "ACC-NEW-8", "19500102"):
        assert value not in told


@pytest.fixture(scope="session")
def findings() -> Iterator[Findings]:
    """Rows for docs/corrections.md; ``AINODE_PUBLISH=1`` writes the page when the run ends."""
    collected = Findings()
    yield collected
    print("\n" + collected.text())
    if os.environ.get("AINODE_PUBLISH") and collected.tables:
        collected.publish(PAGE, "make corrections")


@pytest.mark.parametrize("timing", ["before", "during", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_corrections_table(scene: Scene, findings: Findings, kind: str, timing: str) -> None:
    *earlier, last = KINDS[kind]
    old_study, new_study = uid("s"), last.get("StudyInstanceUID", uid("s"))
    for identity in earlier:
        scene.send(scene.images(identity))
    sent_before: set[str] = set()
    match timing:
        case "before":
            scene.correct(last)
        case "during":
            scene.settle(old_study)
            scene.executor.during = lambda: scene.correct(last)
            scene.work()
            (first,) = scene.jobs()
            assert (first.state, first.result) == ("cancelled", None) and first.superseded_at
            assert scene.deliveries() == []
        case "after":
            scene.settle(old_study)
            scene.work()
            wait_for(lambda: scene.state_of("pacs") == ["stored"], "the first result")
            wait_for(lambda: scene.state_of("full") == ["failed"], "the full one to refuse it")
            sent_before = set(scene.pacs.objects)
            scene.correct(last)
    scene.full.refuse = False
    scene.settle(new_study)
    scene.work()
    # (object, destination) of the new run: each once, with the new identity.
    wait_for(lambda: scene.state_of("pacs")[-1:] == scene.state_of("full")[-1:] == ["stored"], "the new result")
    for pacs in (scene.pacs, scene.full):
        (new,) = set(pacs.objects) - (sent_before if pacs is scene.pacs else set())
        assert _identity(pacs.objects[new]) == _expected(last)
        assert pacs.conflicts == []
    assert set(scene.full.objects).isdisjoint(sent_before)
    *stopped, final = scene.jobs()
    assert len(stopped) == (timing != "before")
    assert (final.state, final.superseded_at, final.study_uid) == ("done", None, new_study)
    assert final.run == (2 if stopped and new_study == old_study else 1)
    _copies_are_kept(scene, len(earlier) + 1, new_study)
    _told(scene, kind, timing, old_study, new_study)
    objects = [
        (name, sop, path)
        for name, pacs in (("pacs", scene.pacs), ("full", scene.full))
        for sop, path in pacs.objects.items()
    ]
    late = [path for name, sop, path in objects if not (name == "pacs" and sop in sent_before)]
    right = sum(_identity(path) == _expected(last) for path in late)
    conflicts = len(scene.pacs.conflicts) + len(scene.full.conflicts)
    findings.add(
        f"Corrected {timing} the run",
        COLUMNS,
        WORDS[kind],
        len(stopped),
        len(sent_before),
        len(late) - right,
        f"{right} of 2",
        conflicts,
        len(scene.node.rows(tables.instances)) - IMAGES,
    )


def _copies_are_kept(scene: Scene, identities: int, study_uid: str) -> None:
    rows = scene.node.rows(tables.instances)
    distinct = 2 if identities == 3 else identities
    assert len(rows) == IMAGES * distinct and len(scene.node.files()) == IMAGES * distinct
    active = [row for row in rows if row.active]
    assert len(active) == IMAGES and {row.study_uid for row in active} == {study_uid}


def _told(scene: Scene, kind: str, timing: str, old_study: str, new_study: str) -> None:
    _no_patient_in_the_ledger(scene)
    corrected = scene.node.ledger("instance.corrected")
    assert {name for row in corrected for name in row.detail["changed"]} == ATTRIBUTES[kind]
    assert "CORRECTION" in scene.why(new_study)
    story = scene.why(old_study)
    assert ("moved to study" in story) == (kind == "other-study")
    with scene.node.store.write() as connection:
        open_cases = correction.outdated_deliveries(connection)
        if timing != "after":
            assert open_cases == []
            return
        (case,) = open_cases
        assert (case.destination, case.state, case.study_uid) == ("pacs", "stored", old_study)
        assert "OLD IDENTITY: pacs has status" in story and "withdrawn, never to be sent to full" in story
        assert next(row.state for row in scene.deliveries() if row.destination == "full") == "withdrawn"
        assert correction.settle(connection, 1.0, old_study) == 1
        assert correction.outdated_studies(connection) == []


@pytest.mark.parametrize("kind", ["temporary-id", "name-typo", "accession"])
def test_half_a_correction_is_held_and_goes_on_by_itself(scene: Scene, kind: str) -> None:
    first, last = KINDS[kind]
    scene.send(scene.images(first))
    corrected = scene.images(last)
    scene.send(corrected[:2])
    scene.settle(uid("s"))
    assert scene.jobs() == []
    reason = scene.held_reason(uid("s"))
    assert reason == f"{HALF_CORRECTED}: 2 of 4 images still carry what was corrected in the others"
    scene.send(corrected[2:])
    scene.settle(uid("s"))
    assert scene.held_reason(uid("s")) is None
    scene.full.refuse = False
    scene.work()
    wait_for(lambda: scene.state_of("pacs") == scene.state_of("full") == ["stored"], "the result")
    (sent,) = scene.pacs.objects.values()
    assert _identity(sent) == _expected(last)
    assert "a correction removed the reason" in scene.why(uid("s"))


def test_back_to_an_identity_that_has_run_runs_again_under_other_uids(scene: Scene) -> None:
    scene.full.refuse = False
    for number, identity in enumerate(KINDS["un-merge"], start=1):
        scene.send(scene.images(identity))
        scene.settle(uid("s"))
        scene.work()
        stored = ["stored"] * number
        wait_for(lambda stored=stored: scene.state_of("pacs") == scene.state_of("full") == stored, "the result")
    assert [job.run for job in scene.jobs()] == [1, 2, 3]
    assert len(scene.pacs.objects) == len(scene.full.objects) == 3
    assert scene.pacs.conflicts == scene.full.conflicts == []
    latest = scene.deliveries()[-1].sop_instance_uid
    assert _identity(scene.pacs.objects[latest]) == _expected(FIRST)


def test_an_operator_may_leave_out_what_a_correction_never_reaches(scene: Scene) -> None:
    first, last = KINDS["merge"]
    scene.send(scene.images(first))
    scene.send(scene.images(last)[:3])
    scene.settle(uid("s"))
    assert scene.jobs() == []
    with scene.node.store.write() as connection:
        study = index.study(connection, uid("s"))
        assert study is not None
        assert leave_out_stragglers(connection, time.time(), study) == 1
        assert index.release_study(connection, time.time(), uid("s"), left_out=1)
    scene.settle(uid("s"))
    scene.work()
    (job,) = scene.jobs()
    assert (job.state, len(job.specification["files"])) == ("done", 3)
    # The old copy once more changes nothing; the corrected one joins the others.
    scene.send(scene.images(first)[3:])
    scene.settle(uid("s"))
    assert len(scene.jobs()) == 1
    scene.send(scene.images(last)[3:])
    scene.settle(uid("s"))
    assert [len(job.specification["files"]) for job in scene.jobs()] == [3, 4]


def test_a_correction_while_the_object_is_on_the_wire_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = KINDS["merge"]
    scene.send(scene.images(first))
    scene.settle(uid("s"))
    arrived = threading.Event()

    def correction_first(association: Any, file: Any, **named: Any) -> Any:
        if not arrived.is_set():
            arrived.set()
            scene.send(scene.images(last))
        return send_object(association, file, **named)

    monkeypatch.setattr("node.delivery.courier.send_object", correction_first)
    scene.full.refuse = False
    scene.work()
    states = {"stored", "withdrawn"}
    wait_for(lambda: {row.state for row in scene.deliveries()} <= states, "the end of both deliveries")
    with scene.node.store.read() as connection:
        cases = correction.outdated_deliveries(connection)
    assert {case.state for case in cases} == {"stored"}
    # What a PACS has is what was reported, no more and no less.
    assert len(cases) == len(scene.pacs.objects) + len(scene.full.objects) >= 1


def test_a_correction_between_claim_and_sending_stops_the_sending(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = KINDS["merge"]
    scene.send(scene.images(first))
    scene.settle(uid("s"))
    scene.full.refuse = False
    verified, guard = Courier._verified, threading.Lock()
    corrected = threading.Event()

    def correction_first(courier: Courier, delivery: Any) -> Any:
        with guard:
            if not corrected.is_set():
                scene.send(scene.images(last))
                corrected.set()
        return verified(courier, delivery)

    monkeypatch.setattr(Courier, "_verified", correction_first)
    scene.work()
    wait_for(lambda: {row.state for row in scene.deliveries()} == {"withdrawn"}, "both to be withdrawn")
    assert corrected.is_set() and not scene.pacs.objects and not scene.full.objects
    with scene.node.store.read() as connection:
        assert correction.outdated_deliveries(connection) == []


def test_what_was_superseded_is_neither_tried_again_nor_replayed(scene: Scene) -> None:
    first, last = KINDS["merge"]
    scene.send(scene.images(first))
    scene.settle(uid("s"))
    scene.work()
    wait_for(lambda: scene.state_of("pacs") == ["stored"], "the first result")
    scene.send(scene.images(last))
    (job,) = scene.jobs()
    (sent,) = [row for row in scene.deliveries() if row.destination == "pacs"]
    with scene.node.store.write() as connection:
        with pytest.raises(UsageError, match="corrected since"):
            queue.retry(connection, 1.0, job.id)
        with pytest.raises(UsageError, match="corrected since"):
            outbox.replay(connection, 1.0, delivery_id=sent.id)
        assert outbox.replay(connection, 1.0, destination="full") == []


def test_dead_run_is_not_answered_under_an_old_identity(scene: Scene) -> None:
    first, last = KINDS["merge"]
    scene.send(scene.images(first))
    scene.settle(uid("s"))
    with scene.node.store.write() as connection:
        connection.execute(tables.jobs.update().values(state="dead", attempts=3))
    scene.send(scene.images(last))
    assert scene.dispatcher.answer_the_dead() == 0
    assert scene.deliveries() == []
