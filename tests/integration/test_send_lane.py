"""The sending lane: nothing lost, nothing mixed up, whatever else comes over the connection."""

from __future__ import annotations

import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from node.archive.spool import dataset_digest
from node.dicom.association import ClientAssociation, Peer
from node.dicom.commitment import (
    COMMITMENT_PROPOSAL,
    COMMITMENT_SOP_CLASS,
    SUCCESS,
    CommitmentAnswer,
    Reference,
    answer_handler,
    information,
)
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import proposals_of, read_object_file, send_object
from node.errors import NoResponse, PeerRejectedObject
from tests.network import instance


def peer(host: str, port: int, **changes: Any) -> Peer:
    values = {"ae_title": "TESTPACS", "host": host, "port": port, "calling_ae_title": "N"}
    return Peer(**{**values, **changes})


class _Talkative(TestPacs):
    """Sends a commitment answer in the middle of each C-STORE, before its response."""

    def _on_store(self, event: Any) -> int:
        report = N_EVENT_REPORT()
        report.MessageID = 7
        report.AffectedSOPClassUID, report.AffectedSOPInstanceUID = (
            UID(COMMITMENT_SOP_CLASS),
            UID("1.2.840.10008.1.20.1.1"),
        )
        report.EventTypeID = 1
        told = information("2.25.5", [Reference("1.2.3", str(event.request.AffectedSOPInstanceUID))])
        report.EventInformation = BytesIO(encode(told, True, True))
        context = next(c for c in event.assoc.accepted_contexts if c.abstract_syntax == COMMITMENT_SOP_CLASS)
        event.assoc.dimse.send_msg(report, context.context_id)
        return super()._on_store(event)


def test_what_else_arrives_is_passed_on(tmp_path: Path) -> None:
    files = [read_object_file(instance(tmp_path / "in", number)) for number in range(20)]
    answers: list[CommitmentAnswer] = []

    def take(answer: CommitmentAnswer) -> int:
        answers.append(answer)
        return SUCCESS

    pacs = _Talkative(tmp_path / "pacs")
    with (
        pacs.running() as address,
        ClientAssociation(
            peer(*address), [*proposals_of(files), COMMITMENT_PROPOSAL], handlers=[answer_handler(take)]
        ) as association,
    ):
        for number, file in enumerate(files, start=1):
            assert send_object(association, file, message_id=number).status == 0x0000
        until = time.monotonic() + 5
        while len(answers) < len(files) and time.monotonic() < until:
            time.sleep(0.01)
    told = {uid for answer in answers for uid in answer.committed}
    assert told == {file.sop_instance_uid for file in files}
    assert {dataset_digest(path) for path in pacs.objects.values()} == {dataset_digest(file.path) for file in files}


@pytest.mark.parametrize("pdu_bytes", [4096, 16384, 131072])
def test_any_size_in_any_fragments(tmp_path: Path, pdu_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (0, 1, 100, 4000, 4084, 70_000, 131_072, 1_000_001)
    files = [
        read_object_file(instance(tmp_path / "in", size, pixels=bytes(size + size % 2) or b"\0\0")) for size in sizes
    ]
    pacs = TestPacs(tmp_path / "pacs")
    original = Association.__init__

    def limited(self: Association, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        if self.mode == "acceptor":
            self.acceptor.maximum_length = pdu_bytes

    monkeypatch.setattr(Association, "__init__", limited)
    with pacs.running() as address, ClientAssociation(peer(*address), proposals_of(files)) as association:
        for number, file in enumerate(files, start=1):
            send_object(association, file, message_id=number)
    assert {dataset_digest(path) for path in pacs.objects.values()} == {dataset_digest(file.path) for file in files}


def test_failures_are_told_with_the_peers_words(tmp_path: Path) -> None:
    class Refusing(TestPacs):
        def _on_store(self, event: Any) -> Any:
            answer = Dataset()
            answer.Status, answer.ErrorComment = 0xC123, "no such thing"
            return answer

    file = read_object_file(instance(tmp_path / "in"))
    with (
        Refusing(tmp_path / "pacs").running() as address,
        ClientAssociation(peer(*address), [file.proposal]) as association,
    ):
        with pytest.raises(PeerRejectedObject, match=r"0xC123.*no such thing"):
            send_object(association, file)
        # The association is good for more.
        with association.exchange() as connection:
            assert connection.is_established


def test_a_peer_that_leaves_in_the_middle(tmp_path: Path) -> None:
    class Leaving(TestPacs):
        def _on_store(self, event: Any) -> int:
            event.assoc.abort(block=False)
            return 0x0000

    file = read_object_file(instance(tmp_path / "in"))
    started = time.monotonic()
    with (
        Leaving(tmp_path / "pacs").running() as address,
        pytest.raises(NoResponse),
        ClientAssociation(peer(*address), [file.proposal]) as association,
    ):
        send_object(association, file)
    assert time.monotonic() - started < 10


def test_a_peer_that_never_answers_costs_its_time_limit(tmp_path: Path) -> None:
    done = threading.Event()

    class Silent(TestPacs):
        def _on_store(self, event: Any) -> int:
            done.wait(20)
            return 0x0000

    file = read_object_file(instance(tmp_path / "in"))
    started = time.monotonic()
    with (
        Silent(tmp_path / "pacs").running() as address,
        pytest.raises(NoResponse),
        ClientAssociation(peer(*address, response_timeout_seconds=0.5), [file.proposal]) as association,
    ):
        try:
            send_object(association, file)
        finally:
            done.set()
    assert time.monotonic() - started < 10
