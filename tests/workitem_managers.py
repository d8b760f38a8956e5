"""A manager of workitems on loopback, by DIMSE and by UPS-RS, with the rules of PS3.4 CC.2 in one place."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, evt
from pynetdicom.sop_class import UnifiedProcedureStepPull, UnifiedProcedureStepPush  # type: ignore[attr-defined]

from tests.network import uid

SUCCESS, ENDED, WRONG_LOCK, TAKEN, NO_FINAL_STATE, MISSING, NOT_CLAIMED = (
    0x0000,
    0xC300,
    0xC301,
    0xC302,
    0xC304,
    0xC307,
    0xC310,
)


def item(value: str, scheme: str = "99TEST", meaning: str = "test") -> Dataset:
    """An item of a code sequence."""
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def workitem(
    study: str,
    instances: dict[str, list[str]],
    *,
    code: str = "stroke-dwi",
    station: str | None = "AINODE",
    readiness: str = "READY",
    priority: str = "HIGH",
    **patient: str,
) -> Dataset:
    """A SCHEDULED workitem on a study, as a task manager creates it.

    Parameters
    ----------
    instances : dict
        Series Instance UID → SOP Instance UIDs of its input.
    """
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = UnifiedProcedureStepPush, uid("workitem", study, code)
    made.ProcedureStepState, made.InputReadinessState = "SCHEDULED", readiness
    made.ScheduledProcedureStepPriority, made.ProcedureStepLabel = priority, "Infarct on diffusion"
    made.ScheduledProcedureStepStartDateTime = "20240101120000"
    made.ScheduledWorkitemCodeSequence = Sequence([item(code)])
    made.ScheduledStationNameCodeSequence = Sequence([item(station)] if station else [])
    for keyword, value in {"PatientID": "P1", "PatientName": "Test^Patient", **patient}.items():
        if keyword != "AccessionNumber":
            setattr(made, keyword, value)
    request = Dataset()
    request.StudyInstanceUID, request.AccessionNumber = uid(study), patient.get("AccessionNumber", "")
    request.RequestedProcedureID = "RP1"
    request.RequestedProcedureDescription = "MR head, stroke"
    made.ReferencedRequestSequence = Sequence([request])
    inputs = []
    for series, named in instances.items():
        one = Dataset()
        one.TypeOfInstances, one.StudyInstanceUID, one.SeriesInstanceUID = "DICOM", uid(study), series
        references = []
        for instance in named:
            reference = Dataset()
            reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            reference.ReferencedSOPInstanceUID = instance
            references.append(reference)
        one.ReferencedSOPSequence = Sequence(references)
        inputs.append(one)
    made.InputInformationSequence = Sequence(inputs)
    return made


@dataclass
class Manager:
    """Workitems and their locks.

    Attributes
    ----------
    silent : set
        States of which the next change is carried out and not answered.
    """

    items: dict[str, Dataset] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    progress: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, made: Dataset) -> str:
        """Enter a workitem; its UID."""
        self.items[made.SOPInstanceUID] = made
        return str(made.SOPInstanceUID)

    def state(self, uid: str) -> str:
        return str(self.items[uid].ProcedureStepState)

    def search(self, wanted: dict[str, str]) -> list[Dataset]:
        found = []
        for made in self.items.values():
            if all(str(made.get(keyword, "")) == value for keyword, value in wanted.items()):
                found.append(made)
        return found

    def change_state(self, uid: str, state: str, lock: str) -> int:
        with self.guard:
            made = self.items.get(uid)
            if made is None:
                return MISSING
            now = str(made.ProcedureStepState)
            if now in ("COMPLETED", "CANCELED"):
                return {"COMPLETED": 0xB306, "CANCELED": 0xB304}[now] if now == state else ENDED
            if state == "IN PROGRESS":
                if now == "IN PROGRESS":
                    return TAKEN
                self.locks[uid] = lock
            elif now != "IN PROGRESS":
                return NOT_CLAIMED
            elif self.locks[uid] != lock:
                return WRONG_LOCK
            elif not self._may_end(made, state):
                return NO_FINAL_STATE
            made.ProcedureStepState = state
            return SUCCESS

    def update(self, uid: str, content: Dataset) -> int:
        with self.guard:
            made = self.items.get(uid)
            if made is None:
                return MISSING
            if made.ProcedureStepState != "IN PROGRESS":
                return NOT_CLAIMED if made.ProcedureStepState == "SCHEDULED" else ENDED
            if self.locks[uid] != content.get("TransactionUID"):
                return WRONG_LOCK
            for element in content:
                if element.keyword != "TransactionUID":
                    made[element.tag] = element
            told = made.ProcedureStepProgressInformationSequence[0]
            self.progress.append(str(told.ProcedureStepProgressDescription))
            return SUCCESS

    def answers(self, state: str) -> bool:
        """Whether a change to a state is answered."""
        with self.guard:
            silent = state in self.silent
            self.silent.discard(state)
            return not silent

    def _may_end(self, made: Dataset, state: str) -> bool:
        """PS3.4 table CC.2.5-3: what must be there before the final state."""
        if state == "CANCELED":
            (told,) = made.get("ProcedureStepProgressInformationSequence", [Dataset()])
            return bool(told.get("ProcedureStepDiscontinuationReasonCodeSequence"))
        (done,) = made.get("UnifiedProcedureStepPerformedProcedureSequence", [Dataset()])
        wanted = ("PerformedStationNameCodeSequence", "PerformedWorkitemCodeSequence")
        return all(done.get(each) for each in wanted) and "OutputInformationSequence" in done


@contextmanager
def dimse(manager: Manager) -> Iterator[dict[str, Any]]:
    """Serve it as UPS Pull SCP; keys of the section."""
    entity = AE("TASKMGR")
    entity.add_supported_context(UnifiedProcedureStepPull)

    def find(event: Any) -> Any:
        wanted = {each.keyword: str(each.value) for each in event.identifier if each.VR != "SQ" and each.value}
        for made in manager.search(wanted):
            match = Dataset()
            for element in event.identifier:
                if element.tag in made:
                    match[element.tag] = made[element.tag]
            yield 0xFF00, match
        yield 0x0000, None

    def act(event: Any) -> tuple[int, None]:
        content, wanted = event.action_information, str(event.request.RequestedSOPInstanceUID)
        status = manager.change_state(wanted, content.ProcedureStepState, content.TransactionUID)
        if not manager.answers(content.ProcedureStepState):
            event.assoc.abort()
        return status, None

    def set_(event: Any) -> tuple[int, None]:
        return manager.update(str(event.request.RequestedSOPInstanceUID), event.modification_list), None

    def get(event: Any) -> tuple[int, Dataset | None]:
        made = manager.items.get(str(event.request.RequestedSOPInstanceUID))
        return (SUCCESS, made) if made is not None else (MISSING, None)

    handlers = [
        (evt.EVT_C_FIND, find),
        (evt.EVT_N_ACTION, act),
        (evt.EVT_N_SET, set_),
        (evt.EVT_N_GET, get),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        host, port = server.server_address[:2]
        yield {"ae_title": "TASKMGR", "host": host, "port": port}
    finally:
        server.shutdown()


@contextmanager
def web(manager: Manager) -> Iterator[dict[str, Any]]:
    """Serve it as UPS-RS origin server (PS3.18 11); keys of the section."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/dicom-web/workitems":
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                wanted = {name: value for name, value in query.items() if name not in ("includefield", "limit")}
                return self._answer(200, [each.to_json_dict() for each in manager.search(wanted)])
            made = manager.items.get(parts.path.rsplit("/", 1)[1])
            return self._answer(404, None) if made is None else self._answer(200, [made.to_json_dict()])

        def do_PUT(self) -> None:
            content = self._content()
            state = str(content.ProcedureStepState)
            status = manager.change_state(self.path.split("/")[3], state, str(content.TransactionUID))
            if manager.answers(state):
                self._changed(status)
            else:
                self.close_connection = True

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            content = self._content()
            content.TransactionUID = parse_qs(parts.query)["transaction-uid"][0]
            self._changed(manager.update(parts.path.split("/")[3], content))

        def _changed(self, status: int) -> None:
            refused = 404 if status == MISSING else 409
            self._answer(200 if status < 0xC000 else refused, None)

        def _content(self) -> Dataset:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            return Dataset.from_json(json.loads(body)[0])

        def _answer(self, code: int, content: Any) -> None:
            body = b"" if content is None else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield {"url": f"http://127.0.0.1:{server.server_address[1]}/dicom-web"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
