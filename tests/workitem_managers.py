"""A manager of workitems on loopback, by DIMSE and by UPS-RS, with the rules of PS3.4 CC.2 in one place."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
)

from node.workitem_manager import EVERY_WORKITEM, EventType
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
    subscribers : list
        AE titles that asked for events.
    telling : callable or None
        Sends an event, a workitem's UID and an event type, to them.
    """

    items: dict[str, Dataset] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    progress: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    subscribers: list[str] = field(default_factory=list)
    telling: Callable[[str, int], None] | None = None
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, made: Dataset) -> str:
        """Enter a workitem; its UID."""
        self.items[made.SOPInstanceUID] = made
        return str(made.SOPInstanceUID)

    def tell(self, uid: str, kind: EventType) -> None:
        """Send an event to whoever subscribed."""
        assert self.subscribers and self.telling is not None
        self.telling(uid, int(kind))

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
def dimse(manager: Manager, receiver_port: int = 0) -> Iterator[dict[str, Any]]:
    """Serve it as UPS Pull and Watch SCP; keys of the section. Events go to ``receiver_port``."""
    entity = AE("TASKMGR")
    entity.add_supported_context(UnifiedProcedureStepPull)
    entity.add_supported_context(UnifiedProcedureStepWatch)

    def tell(named: str, kind: int) -> None:
        assert report(receiver_port, named, kind) == SUCCESS

    manager.telling = tell

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
        if event.action_type == 3:
            assert wanted == EVERY_WORKITEM and content.DeletionLock == "FALSE"
            manager.subscribers.append(str(content.ReceivingAE))
            return SUCCESS, None
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


def report(port: int, named: str, kind: int, calling_ae_title: str = "TASKMGR") -> int:
    """PS3.4 CC.2.4: the manager calls, as provider; the status of the answer."""
    entity = AE(calling_ae_title)
    entity.add_requested_context(UnifiedProcedureStepEvent)
    role = build_role(UnifiedProcedureStepEvent, scp_role=True)
    association = entity.associate("127.0.0.1", port, ae_title="AINODE", ext_neg=[role])
    assert association.is_established
    information = Dataset()
    information.ProcedureStepState, information.RequestingAE = "SCHEDULED", "WATCHER"
    response, _ = association.send_n_event_report(
        information, kind, UnifiedProcedureStepPush, named, meta_uid=UnifiedProcedureStepEvent
    )
    association.release()
    return int(response.Status)


class _WebServer(ThreadingHTTPServer):
    """An origin server and the WebSockets of its subscribers."""

    def __init__(self, manager: Manager) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manager = manager
        self.sockets: list[Any] = []
        self.over = threading.Event()

    def tell(self, named: str, kind: int) -> None:
        """Send an event to every subscriber."""
        event = {"00001000": {"vr": "UI", "Value": [named]}, "00001002": {"vr": "US", "Value": [kind]}}
        body = json.dumps(event).encode()
        # RFC 6455 5.2: a text frame, final.
        length = bytes([len(body)]) if len(body) < 126 else bytes([126]) + len(body).to_bytes(2, "big")
        for connection in self.sockets:
            connection.write(b"\x81" + length + body)


class _Handler(BaseHTTPRequestHandler):
    server: _WebServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if self.headers.get("Upgrade") == "websocket":
            return self._upgrade()
        if parts.path == "/dicom-web/workitems":
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            wanted = {name: value for name, value in query.items() if name not in ("includefield", "limit")}
            return self._answer(200, [each.to_json_dict() for each in self.server.manager.search(wanted)])
        made = self.server.manager.items.get(parts.path.rsplit("/", 1)[1])
        return self._answer(404, None) if made is None else self._answer(200, [made.to_json_dict()])

    def do_PUT(self) -> None:
        content = self._content()
        state = str(content.ProcedureStepState)
        status = self.server.manager.change_state(self.path.split("/")[3], state, str(content.TransactionUID))
        if self.server.manager.answers(state):
            self._changed(status)
        else:
            self.close_connection = True

    def _upgrade(self) -> None:
        """RFC 6455 4.2.2."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.protocol_version = "HTTP/1.1"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", b64encode(sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.server.sockets.append(self.wfile)
        self.server.manager.subscribers.append(self.path.rsplit("/", 1)[1])
        self.server.over.wait()

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if "/subscribers/" in parts.path:
            assert EVERY_WORKITEM in parts.path and parts.query == "deletionlock=false"
            self.send_response(201)
            self.send_header("Content-Location", f"ws://{self.headers['Host']}/ws/subscribers/AINODE")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = self._content()
        content.TransactionUID = parse_qs(parts.query)["transaction-uid"][0]
        self._changed(self.server.manager.update(parts.path.split("/")[3], content))

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


@contextmanager
def web(manager: Manager) -> Iterator[dict[str, Any]]:
    """Serve it as UPS-RS origin server (PS3.18 11); keys of the section."""
    server = _WebServer(manager)
    manager.telling = server.tell
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield {"url": f"http://127.0.0.1:{server.server_address[1]}/dicom-web"}
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
