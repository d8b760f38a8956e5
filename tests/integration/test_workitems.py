"""This node as a Task Performer (IHE AIW-I): workitems by DIMSE and UPS-RS, claimed, run, reported, and what goes wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.archive import tables, workitems
from node.dicom.outside import Outside
from node.dicom.pacs import TestPacs
from node.identity import load_identity
from node.jobs.dispatcher import Dispatcher
from node.jobs.specification import JobSpec, ResultBundle
from node.workitem_manager import EventType
from tests.archive_peers import archive_destination, dcmqrscp_archive
from tests.integration.test_corrections import HeadersOnly, Scene, stage
from tests.modality_simulator import Modality
from tests.network import uid, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port
from tests.workitem_managers import Manager, dimse, report, web, workitem

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

IDENTITY = {"PatientID": "P1", "PatientName": "Test^Patient", "AccessionNumber": "ACC-1"}
RULE = {
    "name": "asked",
    "model": "none",
    "destinations": ["pacs"],
    "match": {"order": {"procedure_code": ["stroke-*"]}},
}
Serve = Callable[[Manager], AbstractContextManager[dict[str, Any]]]


class Answering(HeadersOnly):
    """Its runs count as answers, not as refusals."""

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        bundle = super().run(spec, abandoned=abandoned)
        summary = {key: value for key, value in bundle.summary.items() if key != "refusal"}
        return bundle.model_copy(update={"summary": summary})


class Performing:
    """The node's parts, a manager, and what is done by the clock done at once."""

    def __init__(self, scene: Scene, manager: Manager) -> None:
        self.scene, self.manager = scene, manager
        self.outside = Outside(scene.node.settings, scene.node.store)
        self.files = scene.images(IDENTITY)
        headers = [dcmread(file, stop_before_pixels=True) for file in self.files]
        self.inputs = {headers[0].SeriesInstanceUID: [each.SOPInstanceUID for each in headers]}

    def add(self, **changes: Any) -> str:
        facts = {**IDENTITY, **changes}
        return self.manager.add(workitem("s", self.inputs, **facts))

    def look(self) -> int | None:
        return self.outside.perform("ris")

    def answer(self) -> None:
        """From images to results at the PACS."""
        self.scene.settle(uid("s"))
        self.scene.work()
        wait_for(lambda: self.scene.state_of("pacs") == ["stored"], "the result")

    def kinds(self) -> list[str]:
        return [row.kind for row in self.scene.node.rows(tables.ledger) if row.kind.startswith("workitem.")]


@contextmanager
def performing(
    folder: Path, serve: Serve, destination: dict[str, Any] | None = None, **section: Any
) -> Iterator[Performing]:
    manager = Manager()
    with serve(manager) as reached:
        ris = {**reached, "station_names": ["AINODE"], "patience_seconds": 3600.0, **section}
        with stage(
            folder, further={"workitems": {"ris": ris}, "rule": [RULE], "destination": destination or {}}
        ) as scene:
            scene.full.refuse = False
            scene.executor = Answering()
            scene.dispatcher = Dispatcher(
                scene.node.settings, scene.node.store, scene.executor, load_identity(scene.node.settings)
            )
            yield Performing(scene, manager)


def _run_by(scene: Scene, executor: HeadersOnly) -> None:
    settings = scene.node.settings
    scene.dispatcher = Dispatcher(settings, scene.node.store, executor, load_identity(settings))


@pytest.mark.parametrize("serve", [dimse, web])
def test_claimed_run_and_completed_with_its_outputs(tmp_path: Path, serve: Serve) -> None:
    with performing(tmp_path, serve, patience_seconds=1.0) as node:
        asked = node.add()
        assert node.look() == 1
        assert node.manager.state(asked) == "IN PROGRESS"
        node.scene.send(node.files)
        node.look()
        node.answer()
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "COMPLETED", "the end")
        (done,) = node.manager.items[asked].UnifiedProcedureStepPerformedProcedureSequence
        (output,) = done.OutputInformationSequence
        sent = {reference.ReferencedSOPInstanceUID for reference in output.ReferencedSOPSequence}
        assert sent == set(node.scene.pacs.objects)
        assert output.StudyInstanceUID == uid("s")
        assert output.DICOMRetrievalSequence[0].RetrieveAETitle == "TESTPACS"
        assert done.PerformedWorkitemCodeSequence[0].CodeValue == "stroke-dwi"
        assert done.PerformedStationNameCodeSequence[0].CodeValue == "AINODE"
        assert node.kinds() == ["workitem.claimed", "workitem.completed"]
        story = node.scene.why(uid("s"))
        assert "workitem of ris (stroke-dwi 99TEST) claimed" in story and "4 of 4 instances by the workitem" in story
        _lock_is_nowhere(node, asked)


def test_a_run_that_did_not_run_is_cancelled_with_its_code(tmp_path: Path) -> None:
    with performing(tmp_path, dimse, patience_seconds=1.0) as node:
        _run_by(node.scene, HeadersOnly())
        asked = node.add()
        node.look()
        node.scene.send(node.files)
        node.answer()
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "CANCELED", "the end")
        (told,) = node.manager.items[asked].ProcedureStepProgressInformationSequence
        assert told.ReasonForCancellation == "did not run: TEST-001"
        # The status object that says so is an output all the same.
        (done,) = node.manager.items[asked].UnifiedProcedureStepPerformedProcedureSequence
        assert len(done.OutputInformationSequence) == 1


def test_input_is_fetched_from_the_archive(tmp_path: Path) -> None:
    with (
        dcmqrscp_archive(tmp_path, free_port()) as port,
        performing(
            tmp_path, dimse, destination={"archive": archive_destination(port)["pacs"]}, archive="archive"
        ) as node,
    ):
        asked = node.add()
        Modality("127.0.0.1", port, called_ae_title="ARCHIVE").store(node.files)
        node.look()
        assert node.outside.fetch_studies() == 1
        node.answer()
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "COMPLETED", "the end")
        assert node.scene.state_of("pacs") == ["stored"]


def test_others_work_is_left_alone(tmp_path: Path) -> None:
    with performing(tmp_path, dimse) as node:
        for number, changes in enumerate(
            [{"station": "OTHER"}, {"station": None}, {"readiness": "INCOMPLETE"}, {"code": "lung"}]
        ):
            node.manager.add(workitem(f"s{number}", node.inputs, **changes))  # type: ignore[arg-type]
        assert node.look() == 0
        assert {node.manager.state(each) for each in node.manager.items} == {"SCHEDULED"}
        assert node.scene.node.rows(tables.workitems) == []


@pytest.mark.parametrize("serve", [dimse, web])
def test_a_claim_whose_answer_was_lost_is_our_own(tmp_path: Path, serve: Serve) -> None:
    with performing(tmp_path, serve) as node:
        asked = node.add()
        node.manager.silent.add("IN PROGRESS")
        assert node.look() is None
        assert node.manager.state(asked) == "IN PROGRESS" and node.kinds() == []
        # A new process, as after a kill.
        node.outside = Outside(node.scene.node.settings, node.scene.node.store)
        assert node.look() == 0
        assert node.kinds() == ["workitem.claimed"]
        assert [row.content["workitem_uid"] for row in node.scene.node.rows(tables.orders)] == [asked]


@pytest.mark.parametrize("serve", [dimse, web])
def test_somebody_else_was_faster(tmp_path: Path, serve: Serve) -> None:
    with performing(tmp_path, serve) as node:
        asked = node.add()
        found = node.manager.search({})
        node.manager.search = lambda wanted: found  # type: ignore[method-assign]
        taken = workitem("s", node.inputs, **IDENTITY)
        taken.ProcedureStepState = "IN PROGRESS"
        node.manager.items[asked], node.manager.locks[asked] = taken, "1.2.3"
        assert node.look() == 0
        assert node.kinds() == ["workitem.lost"]
        assert node.manager.locks[asked] == "1.2.3" and node.manager.progress == []


@pytest.mark.parametrize("serve", [dimse, web])
def test_an_end_whose_answer_was_lost_is_said_once(tmp_path: Path, serve: Serve) -> None:
    with performing(tmp_path, serve, patience_seconds=1.0) as node:
        asked = node.add()
        node.look()
        node.scene.send(node.files)
        node.answer()
        node.manager.silent.add("COMPLETED")
        wait_for(lambda: node.look() is None and node.manager.state(asked) == "COMPLETED", "the end, unanswered")
        assert node.kinds() == ["workitem.claimed"]
        node.look()
        assert node.kinds() == ["workitem.claimed", "workitem.completed"]
        assert node.scene.node.rows(tables.workitems)[0].state == "ended"


def test_a_patient_that_disagrees_is_cancelled_with_the_reason(tmp_path: Path) -> None:
    with performing(tmp_path, dimse, patience_seconds=1.0) as node:
        asked = node.add(PatientID="P2", PatientName="Other^Patient")
        node.look()
        node.scene.send(node.files)
        node.scene.settle(uid("s"))
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "CANCELED", "the end")
        (told,) = node.manager.items[asked].ProcedureStepProgressInformationSequence
        assert told.ReasonForCancellation == "no rule of this node takes these images"
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110522"
        assert "ORDER MISMATCH" in node.scene.why(uid("s"))
        assert node.scene.jobs() == []


def test_input_that_never_comes_is_cancelled(tmp_path: Path) -> None:
    with performing(tmp_path, web, patience_seconds=1.0) as node:
        asked = node.add()
        node.look()
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "CANCELED", "the end")
        (told,) = node.manager.items[asked].ProcedureStepProgressInformationSequence
        assert told.ReasonForCancellation == "the input did not come"
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110523"


def test_a_cancellation_stops_what_has_not_answered(tmp_path: Path) -> None:
    with performing(tmp_path, dimse) as node:
        asked = node.add()
        node.look()
        node.scene.send(node.files)
        node.scene.settle(uid("s"))
        assert [job.state for job in node.scene.jobs()] == ["queued"]
        _cancel(node, asked)
        node.look()
        assert node.manager.state(asked) == "CANCELED"
        (told,) = node.manager.items[asked].ProcedureStepProgressInformationSequence
        assert told.ReasonForCancellation == "cancelled as its manager asked"
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
        assert [job.state for job in node.scene.jobs()] == ["cancelled"]
        # The order is gone with it: another look at the study starts nothing.
        assert node.scene.node.rows(tables.orders) == []
        assert node.kinds() == ["workitem.claimed", "workitem.cancel_asked", "workitem.canceled"]
        assert "is to be cancelled, says TASKMGR; 1 runs were stopped" in node.scene.why(uid("s"))


def test_a_cancellation_that_comes_too_late_takes_nothing_back(tmp_path: Path) -> None:
    with performing(tmp_path, dimse, patience_seconds=1.0) as node:
        asked = node.add()
        node.look()
        node.scene.send(node.files)
        node.answer()
        _cancel(node, asked)
        wait_for(lambda: node.look() is not None and node.manager.state(asked) == "COMPLETED", "the end")


def _cancel(node: Performing, asked: str) -> None:
    store = node.scene.node.store
    with store.write() as connection:
        assert workitems.ask_to_cancel(connection, time.time(), "ris", asked, "TASKMGR")
    with store.write() as connection:
        assert not workitems.ask_to_cancel(connection, time.time(), "ris", asked, "TASKMGR")


@pytest.mark.parametrize("serve", [dimse, web])
def test_a_served_node_hears_events(tmp_path: Path, serve: Any) -> None:
    """It is asked once an hour: what happens sooner has come by an event."""
    manager, receiver = Manager(), free_port()
    with serve(manager, receiver) if serve is dimse else serve(manager) as reached:
        keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in reached.items())
        rule = (
            '[[rule]]\nname = "asked"\nmodel = "infarct-adc-baseline"\ndestinations = ["pacs"]\n'
            '[rule.match.order]\nprocedure_code = ["stroke-dwi"]\n'
        )
        extra = f'[workitems.ris]\n{keys}station_names = ["AINODE"]\ninterval_seconds = 3600.0\njitter_seconds = 0.0\n'
        pacs = {"pacs": ("TESTPACS", free_port())}
        node = NodeProcess(tmp_path / "node", pacs, extra=extra, rules=rule, port=receiver)
        node.start()
        try:
            wait_for(lambda: manager.subscribers, "the subscription", seconds=90)
            assert manager.subscribers == ["AINODE"]
            asked = manager.add(workitem("s", {uid("series"): [uid("image")]}, **IDENTITY))
            manager.tell(asked, EventType.STATE)
            wait_for(lambda: manager.state(asked) == "IN PROGRESS", "the claim", seconds=30)
            manager.tell(asked, EventType.CANCEL_REQUESTED)
            wait_for(lambda: manager.state(asked) == "CANCELED", "the end", seconds=30)
        finally:
            node.stop()


def test_events_are_taken_from_managers_only(tmp_path: Path) -> None:
    with performing(tmp_path, dimse) as node:
        port = node.scene.node.peer().port
        assert report(port, uid("x"), EventType.CANCEL_REQUESTED, "STRANGER") == 0x0124
        assert report(port, uid("x"), EventType.CANCEL_REQUESTED, "TASKMGR") == 0x0000


def test_a_served_node_performs_by_itself(tmp_path: Path) -> None:
    manager, pacs = Manager(), TestPacs(tmp_path / "pacs")
    volume = make_phantom(31, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    study = write_phantom_study(volume, tmp_path / "study", seed=31)
    headers = [dcmread(file, stop_before_pixels=True) for file in study.files]
    inputs: dict[str, list[str]] = {}
    for header in headers:
        inputs.setdefault(header.SeriesInstanceUID, []).append(header.SOPInstanceUID)
    patient = {name: str(headers[0].get(name, "") or "") for name in ("PatientID", "PatientName", "AccessionNumber")}
    asked = workitem("s", inputs, **patient)
    for item in (*asked.ReferencedRequestSequence, *asked.InputInformationSequence):
        item.StudyInstanceUID = study.study_uid
    manager.add(asked)
    with pacs.running() as (_, port), dimse(manager) as reached:
        ris = f'[workitems.ris]\nae_title = "TASKMGR"\nhost = "127.0.0.1"\nport = {reached["port"]}\n'
        rule = (
            '[[rule]]\nname = "asked"\nmodel = "infarct-adc-baseline"\ndestinations = ["pacs"]\n'
            '[rule.match.order]\nprocedure_code = ["stroke-dwi"]\n'
        )
        extra = f'{ris}station_names = ["AINODE"]\ninterval_seconds = 1.0\njitter_seconds = 0.0\n'
        node = NodeProcess(tmp_path / "node", {"pacs": ("TESTPACS", port)}, extra=extra, rules=rule)
        node.start()
        try:
            wait_for(lambda: asked.ProcedureStepState == "IN PROGRESS", "the claim", seconds=30)
            Modality("127.0.0.1", node.port, called_ae_title="AINODE").store(study.files)
            wait_for(lambda: asked.ProcedureStepState == "COMPLETED", "the end", seconds=60)
        finally:
            node.stop()
        (done,) = asked.UnifiedProcedureStepPerformedProcedureSequence
        outputs = {
            each.ReferencedSOPInstanceUID for o in done.OutputInformationSequence for each in o.ReferencedSOPSequence
        }
        assert outputs == set(pacs.objects) and len(outputs) >= 2
        (request,) = {
            str(item.RequestedProcedureID)
            for held in pacs.objects.values()
            for item in dcmread(held, stop_before_pixels=True).get("ReferencedRequestSequence", [])
        }
        assert request == "RP1"


def _lock_is_nowhere(node: Performing, asked: str) -> None:
    lock = node.manager.locks[asked]
    with node.scene.node.store.read() as connection:
        told = json.dumps([row.detail for row in connection.execute(select(tables.ledger))])
    assert lock not in told and lock not in node.scene.why(uid("s"))
