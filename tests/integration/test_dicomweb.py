"""DICOMweb destinations and sources, against Orthanc's plug-in."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import kill_switch
from node.archive import tables
from node.archive.part10 import dataset_offset
from node.archive.pauses import Scope
from node.delivery import outbox
from node.dicom.filing import Filing
from node.dicomweb import qido
from node.dicomweb.json_model import text
from node.dicomweb.multipart import PartBegins, PartData, PartEnds, read_parts
from node.dicomweb.wado import Fetcher
from node.dicomweb.web_client import WebClient, WebPeer
from node.errors import NoResponse, PeerNotTrusted, WebAnswerUnusable, WebNotAuthorised
from tests.dicomweb_peer import PASSWORD, USER, Gate, WebOrthanc, running_web_orthanc
from tests.network import Node, file_delivery, instance, running_node, running_sender, uid, wait_for
from tests.peers import free_port
from tests.tls_certificates import Authority

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebOrthanc]:
    with running_web_orthanc(tmp_path_factory.mktemp("web") / "orthanc") as peer:
        yield peer


def _destination(url: str, **changes: Any) -> dict[str, Any]:
    return {"url": url, "retry_seconds": 0.05, "retry_ceiling_seconds": 0.2, "response_timeout_seconds": 5.0, **changes}


def _files(folder: Path, job: str, count: int = 2) -> list[Path]:
    """Results of a job as :func:`file_delivery` names their study and series."""
    wanted = {"StudyInstanceUID": uid("study", job), "SeriesInstanceUID": uid("series", job)}
    return [instance(folder, number, study=job, **wanted) for number in range(count)]


def _states(node: Node, destination: str) -> list[str]:
    with node.store.read() as connection:
        return sorted(row.proof or row.state for row in outbox.list_deliveries(connection, destination=destination))


def _deliver(node: Node, files: list[Path], job: str) -> None:
    file_delivery(node.store, node.settings, files, ["web"], now=time.time(), job=job)


def test_stored_with_its_bytes_and_proven_by_query(tmp_path: Path, orthanc: WebOrthanc) -> None:
    files = _files(tmp_path, "plain")
    with running_node(tmp_path, destination={"web": _destination(orthanc.url)}) as node:
        _deliver(node, files, "plain")
        with running_sender(node.settings, node.store):
            wait_for(lambda: _states(node, "web") == ["query"] * 2, "proof", seconds=20)
        assert len(node.ledger("delivery.verified")) == 2
    for number, file in enumerate(files):
        kept = orthanc.file(uid("plain", "instance", number))
        copy = tmp_path / "kept.dcm"
        copy.write_bytes(kept)
        assert kept[dataset_offset(copy) :] == file.read_bytes()[dataset_offset(file) :]


def test_tls_client_certificate_and_password(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "hospital")
    server, client = authority.issue("archive"), authority.issue("node")
    (tmp_path / "passcode").write_text(PASSWORD + "\n")
    (tmp_path / "wrong").write_text("another\n")
    with (
        running_web_orthanc(tmp_path / "orthanc", password=True) as peer,
        Gate(peer.root, certificate=server, tokens=False).running() as gate,
    ):
        url = f"{gate.root}/dicom-web"
        right = _destination(url, username=USER, passcode_file=str(tmp_path / "passcode"), tls=client.client())
        with running_node(tmp_path, destination={"web": right}) as node:
            _deliver(node, _files(tmp_path, "tls"), "tls")
            with running_sender(node.settings, node.store):
                wait_for(lambda: _states(node, "web") == ["query"] * 2, "proof", seconds=20)
            section = node.settings.destination["web"]
        assert len(peer.instances()) == 2
        assert section.tls is not None
        nameless = section.tls.model_copy(update={"certificate": None, "key": None})
        distrusting = section.tls.model_copy(update={"ca": Authority(tmp_path, "other").ca})
        for errors, change in (
            (WebNotAuthorised, {"passcode_file": tmp_path / "wrong"}),
            (PeerNotTrusted, {"tls": distrusting}),
            # In TLS 1.3 the refusal of a client without certificate comes with the answer.
            ((PeerNotTrusted, NoResponse), {"tls": nameless}),
        ):
            with pytest.raises(errors), WebClient(WebPeer.of(section.model_copy(update=change))) as web:
                qido.studies(web)


def test_token_is_fetched_renewed_and_never_needed_twice(tmp_path: Path, orthanc: WebOrthanc) -> None:
    (tmp_path / "secret").write_text("s3cret-of-the-node\n")
    with Gate(orthanc.root).running() as gate:
        oauth = {"token_url": f"{gate.root}/token", "client_id": "node", "client_secret_file": str(tmp_path / "secret")}
        with running_node(tmp_path, destination={"web": _destination(f"{gate.root}/dicom-web", oauth=oauth)}) as node:
            _deliver(node, _files(tmp_path, "oauth"), "oauth")
            with running_sender(node.settings, node.store):
                wait_for(lambda: _states(node, "web") == ["query"] * 2, "proof", seconds=20)
            peer = WebPeer.of(node.settings.destination["web"])
            before = len(gate.issued)
            with WebClient(peer) as client:
                qido.studies(client)
                qido.studies(client)
                assert len(gate.issued) == before + 1, "a token serves more than one request"
                gate.revoke()
                assert qido.studies(client), "a token that is refused is fetched anew"
            (tmp_path / "secret").write_text("wrong\n")
            with pytest.raises(WebNotAuthorised, match="invalid_client"), WebClient(peer) as client:
                qido.studies(client)


def test_busy_service_and_lost_answer_store_once(tmp_path: Path, orthanc: WebOrthanc) -> None:
    """Two passing refusals, then an answer that is lost after the archive stored: asked for, and not sent again."""
    (tmp_path / "secret").write_text("s3cret-of-the-node\n")
    with Gate(orthanc.root, faults=[503, 429], drop_answers=1).running() as gate:
        oauth = {"token_url": f"{gate.root}/token", "client_id": "node", "client_secret_file": str(tmp_path / "secret")}
        with running_node(tmp_path, destination={"web": _destination(f"{gate.root}/dicom-web", oauth=oauth)}) as node:
            gate.issued.append("token-of-somebody-else")
            _deliver(node, _files(tmp_path, "lost", 1), "lost")
            with running_sender(node.settings, node.store):
                wait_for(lambda: _states(node, "web") == ["query"], "proof", seconds=20)
            assert [row.kind for row in node.rows(tables.ledger) if row.kind == "delivery.unknown"] != []
    assert [each for each in gate.passed if each.startswith("POST")] == [
        f"POST /dicom-web/studies/{uid('study', 'lost')}"
    ]
    assert list(orthanc.instances()).count(uid("lost", "instance", 0)) == 1


def test_what_a_service_says_of_an_instance_decides(tmp_path: Path) -> None:
    """Failure Reasons of PS3.18 table I.2-2, from a service that says what the test wants."""
    answers: dict[str, tuple[int, int | None, str]] = {}
    with (
        _Saying(answers) as url,
        running_node(tmp_path, destination={"web": _destination(url, verify=False)}) as node,
    ):
        for job, (status, reason, expected) in {
            "good": (200, None, "stored"),
            "warned": (202, 0xB000, "stored"),
            "no-class": (409, 0x0122, "dead"),
            "bad-syntax": (409, 0xA770, "dead"),
            "full": (202, 0xA700, "failed"),
            "processing": (409, 0x0110, "failed"),
            "gone": (404, None, "dead"),
            "unmentioned": (200, -1, "unknown"),
        }.items():
            answers[uid("study", job)] = (status, reason, uid(job, "instance", 0))
            _deliver(node, _files(tmp_path, job, 1), job)
            with running_sender(node.settings, node.store):
                wait_for(
                    lambda job=job, expected=expected: expected in _past_states(node, job),
                    f"{job}: {expected}",
                    seconds=10,
                )
            row = _row(node, job)
            if reason is not None and reason > 0:
                assert reason in (row.status, *_statuses(node, job)), job
            with node.store.write() as connection:  # out of the way of the next
                connection.execute(tables.deliveries.update().values(not_before=time.time() + 3600))


def _row(node: Node, job: str) -> Any:
    with node.store.read() as connection:
        (row,) = outbox.list_deliveries(connection, study_uid=uid("study", job))
    return row


def _past_states(node: Node, job: str) -> set[str]:
    rows = node.rows(tables.ledger, tables.ledger.c.study_uid == uid("study", job))
    return {row.kind.removeprefix("delivery.") for row in rows}


def _statuses(node: Node, job: str) -> list[Any]:
    return [
        row.detail.get("status") for row in node.rows(tables.ledger, tables.ledger.c.study_uid == uid("study", job))
    ]


class _Saying:
    """A service that answers a store request with what it is told for the study."""

    def __init__(self, answers: dict[str, tuple[int, int | None, str]]) -> None:
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection, connection.makefile("rb") as stream:
                self._answer(connection, stream)

    def _answer(self, connection: socket.socket, stream: Any) -> None:
        method, path, _ = stream.readline().decode().split()
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        stream.read(length)
        status, content = 204, b""
        if method == "POST":
            status, reason, sop_instance_uid = self._answers[path.rpartition("/")[2]]
            content = self._content(reason, sop_instance_uid)
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + content)

    @staticmethod
    def _content(reason: int | None, sop_instance_uid: str) -> bytes:
        if reason == -1:
            return b"{}"
        item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [sop_instance_uid]}}
        if reason is not None and reason >> 12 != 0xB:
            item["00081197"] = {"vr": "US", "Value": [reason]}
            return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()
        if reason is not None:
            item["00081196"] = {"vr": "US", "Value": [reason]}
        return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()


def test_service_that_is_down_costs_no_attempt_and_opens_the_breaker(tmp_path: Path) -> None:
    with running_node(
        tmp_path,
        destination={"web": _destination(f"http://127.0.0.1:{free_port()}", maximum_attempts=2)},
        delivery={"breaker_failures": 3, "breaker_seconds": 30.0},
    ) as node:
        _deliver(node, _files(tmp_path, "down", 1), "down")
        with running_sender(node.settings, node.store):
            wait_for(lambda: len(node.ledger("delivery.failed")) == 3, "three attempts")
            time.sleep(0.5)
            assert len(node.ledger("delivery.failed")) == 3, "nothing is tried while the breaker is open"
        assert _states(node, "web") == ["failed"]


def test_pause_cuts_off_what_is_on_the_wire(tmp_path: Path) -> None:
    """A service that takes a request and never answers: the pause does not wait for its time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        slow = _destination(url, response_timeout_seconds=60.0)
        with running_node(tmp_path, destination={"web": slow}) as node:
            _deliver(node, _files(tmp_path, "silent", 1), "silent")
            with running_sender(node.settings, node.store):
                wait_for(lambda: "sending" in _past_states(node, "silent"), "sending")
                time.sleep(0.3)
                with node.store.write() as connection:
                    kill_switch.pause(connection, time.time(), Scope.DESTINATION, "web", reason="r", by="test")
                started = time.monotonic()
                wait_for(lambda: _states(node, "web") == ["unknown"], "the end of the sending")
                assert time.monotonic() - started < 3.0
                time.sleep(0.5)
                assert len(node.ledger("delivery.sending")) == 1, "nothing leaves while it is paused"


def test_study_is_found_and_fetched_by_the_normal_filing(tmp_path: Path, orthanc: WebOrthanc) -> None:
    files = _files(tmp_path, "prior", 3)
    with running_node(tmp_path / "sending", destination={"web": _destination(orthanc.url)}) as node:
        _deliver(node, files, "prior")
        with running_sender(node.settings, node.store):
            wait_for(lambda: _states(node, "web") == ["query"] * 3, "proof", seconds=20)
    with running_node(tmp_path / "fetching") as node, WebClient(WebPeer(url=orthanc.url)) as client:
        (study,) = qido.studies(client, PatientID="P-prior")
        study_uid = text(study, "0020000D")
        (series,) = qido.series(client, study_uid)
        assert len(qido.instances(client, study_uid, text(series, "0020000E"))) == 3
        assert qido.instances(client, uid("nowhere")) == []
        filing = Filing(node.settings, node.store, node.spool)
        filing.start()
        fetcher = Fetcher(
            client, filing, node.spool, node.settings.receive, calling_ae_title="ORTHANC", called_ae_title="AINODE"
        )
        report = fetcher.fetch(study_uid)
        again = fetcher.fetch(study_uid, text(series, "0020000E"), uid("prior", "instance", 0))
        filing.stop()
        assert (len(report.filed), report.refused) == (3, [])
        assert again.filed == [uid("prior", "instance", 0)]
        rows = node.rows(tables.instances)
        assert {row.calling_ae_title for row in rows} == {"ORTHANC"}
        (woken,) = node.rows(tables.studies)
        assert woken.due_at is not None, "the study is looked at"
        assert sorted(node.ledger("instance.duplicate")) != []
        assert len(node.files()) == 3
        sent = {file.read_bytes()[dataset_offset(file) :] for file in files}
        assert {file.read_bytes()[dataset_offset(file) :] for file in node.files()} == sent


@pytest.mark.parametrize("size", [1, 2, 7, 64, 4096])
def test_multipart_is_cut_the_same_whatever_the_chunks(size: int) -> None:
    contents = [b"", b"\r\n--almost", b"x" * 1000 + b"\r\n", bytes(range(256))]
    body = b"preamble\r\n" + b"".join(
        b"--b0\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in contents
    )
    whole = body + b"--b0--\r\n"
    found: list[bytes] = []
    for event in read_parts((whole[at : at + size] for at in range(0, len(whole), size)), "b0"):
        match event:
            case PartBegins():
                assert event.headers == {"content-type": "application/dicom"}
                found.append(b"")
            case PartData():
                found[-1] += event.data
            case PartEnds():
                pass
    assert found == contents
    with pytest.raises(WebAnswerUnusable, match="last boundary"):
        list(read_parts([body], "b0"))
