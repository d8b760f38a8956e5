"""Proof of storage: on the same association, on a new one, late, never, truthfully negative; with Orthanc as judge."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from sqlalchemy import select

from node.archive import tables
from node.delivery import outbox
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import COMMITMENT_SOP_CLASS, Reference, information
from node.dicom.pacs import TestPacs
from node.doorbell import SENDER, Doorbell, ring
from tests.network import (
    Node,
    file_delivery,
    instance,
    running_node,
    running_sender,
    tool_server,
    uid,
    wait_for,
)
from tests.peers import free_port


def target(port: int, **changes: Any) -> dict[str, Any]:
    return {"ae_title": "TESTPACS", "host": "127.0.0.1", "port": port, "retry_seconds": 0.2, **changes}


def states(node: Node) -> list[str]:
    return sorted(row.state for row in node.rows(tables.deliveries))


def deliver(node: Node, files: list[Path], job: str = "j") -> None:
    file_delivery(node.store, node.settings, files, ["pacs"], now=time.time(), job=job)
    ring(node.settings.data_dir / "run", SENDER)


@contextmanager
def node_and_pacs(tmp_path: Path, *, own_association: bool, **changes: Any) -> Iterator[tuple[Node, TestPacs]]:
    """A node whose destination ``pacs`` is a test PACS."""
    pacs_port, node_port = free_port(), free_port()
    own = Peer(ae_title="AINODE", host="127.0.0.1", port=node_port, calling_ae_title="TESTPACS")
    pacs = TestPacs(tmp_path / "pacs", port=pacs_port, node=own if own_association else None)
    with (
        pacs.running(),
        running_node(tmp_path, receive={"port": node_port}, destination={"pacs": target(pacs_port, **changes)}) as node,
    ):
        yield node, pacs


@pytest.mark.parametrize("own_association", [False, True])
def test_three_objects_are_committed_at_once(tmp_path: Path, own_association: bool) -> None:
    with node_and_pacs(tmp_path, own_association=own_association) as (node, pacs):
        with running_sender(node.settings, node.store):
            # Warm: a first object, so that the measurement holds no import and no first connection.
            deliver(node, [instance(tmp_path / "in", "warm")], job="warm")
            wait_for(lambda: states(node) == ["committed"], "the first")
            files = [instance(tmp_path / "in", number) for number in range(3)]
            file_delivery(node.store, node.settings, files, ["pacs"], now=time.time())
            started = time.perf_counter()
            ring(node.settings.data_dir / "run", SENDER)
            wait_for(lambda: states(node) == ["committed"] * 4, "four committed")
            took = time.perf_counter() - started
        how = "a new association" if own_association else "the same association"
        print(f"3 objects stored and committed, answer on {how}: {took * 1e3:.0f} ms")
        # The answer is in our store a moment before the peer has noted that it was taken.
        wait_for(lambda: [failed for _, _, failed in pacs.commitments] == [0, 0], "both answers")
        assert len(node.ledger("commitment.requested")) == len(node.ledger("commitment.answered")) == 4


@pytest.mark.peer
def test_orthanc_commits_on_an_association_of_its_own(tmp_path: Path) -> None:
    dicom_port, http_port, node_port = free_port(), free_port(), free_port()
    configuration = tmp_path / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "StorageDirectory": str(tmp_path / "orthanc"),
                "IndexDirectory": str(tmp_path / "orthanc"),
                "HttpPort": http_port,
                "DicomAet": "ORTHANC",
                "DicomPort": dicom_port,
                "DicomModalities": {"node": ["AINODE", "127.0.0.1", node_port]},
                "OverwriteInstances": False,
            }
        )
    )
    files = [instance(tmp_path / "in", number) for number in range(3)]
    with (
        tool_server("Orthanc", configuration, port=dicom_port),
        running_node(
            tmp_path,
            receive={"port": node_port},
            destination={"pacs": target(dicom_port, ae_title="ORTHANC", commitment_timeout_seconds=30)},
        ) as node,
        running_sender(node.settings, node.store),
    ):
        deliver(node, files)
        wait_for(lambda: states(node) == ["committed"] * 3, "Orthanc's answer", seconds=30)


class _Forgetful(TestPacs):
    """Loses its first object after it has answered with success, and says so when asked."""

    def _answer(self, association: Association, request: Dataset) -> None:
        if not self.commitments:
            with self._guard:
                lost = next(iter(self._held))
                self._held.pop(lost).path.unlink()
        super()._answer(association, request)


def test_what_was_lost_is_sent_again(tmp_path: Path) -> None:
    pacs = _Forgetful(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        running_node(tmp_path, destination={"pacs": target(port)}) as node,
        running_sender(node.settings, node.store),
    ):
        deliver(node, [instance(tmp_path / "in", number) for number in range(3)])
        wait_for(lambda: states(node) == ["committed"] * 3, "all committed in the end", seconds=20)
        assert len(pacs.objects) == 3
        outcomes = [row.detail["committed"] for row in node.ledger("commitment.answered")]
        assert sorted(outcomes) == [False, True, True, True]


class _Mute(TestPacs):
    """Takes commitment requests and never answers the first."""

    asked = 0

    def _answer(self, association: Association, request: Dataset) -> None:
        self.asked += 1
        if self.asked > 1:
            super()._answer(association, request)


@pytest.mark.slow
def test_an_answer_that_never_comes_is_asked_for_again(tmp_path: Path) -> None:
    pacs = _Mute(tmp_path / "pacs")
    with (
        pacs.running() as (_, port),
        running_node(tmp_path, destination={"pacs": target(port, commitment_timeout_seconds=1.5)}) as node,
        running_sender(node.settings, node.store),
    ):
        deliver(node, [instance(tmp_path / "in")])
        wait_for(lambda: states(node) == ["stored"], "the object")
        wait_for(lambda: states(node) == ["committed"], "the second answer", seconds=20)
        transactions = node.rows(tables.commitments)
        assert sorted(str(row.outcome) for row in transactions) == ["committed", "expired"]


@pytest.mark.peer
def test_a_peer_without_commitment_leaves_it_stored(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "out").mkdir()
    with (
        tool_server("storescp", "-od", tmp_path / "out", port, port=port),
        running_node(tmp_path, destination={"pacs": target(port)}) as node,
        running_sender(node.settings, node.store),
    ):
        deliver(node, [instance(tmp_path / "in")])
        wait_for(lambda: states(node) == ["stored"], "the object")
        time.sleep(0.3)
        assert node.rows(tables.commitments) == []


@pytest.mark.parametrize("as_provider", [True, False])
def test_answers_at_the_receiver_ring_the_sender(tmp_path: Path, as_provider: bool) -> None:
    with running_node(tmp_path, destination={"pacs": target(free_port())}) as node:
        file_delivery(node.store, node.settings, [instance(tmp_path / "in")], ["pacs"], now=time.time())
        with node.store.write() as connection:
            (delivery,) = outbox.claim(connection, time.time(), "pacs", 5)
            outbox.stored(connection, time.time(), delivery.id, 0)
            outbox.open_commitment(connection, time.time(), "2.25.77", "pacs", [delivery.id], time.time() + 60)
        reference = Reference(delivery.sop_class_uid, delivery.sop_instance_uid)
        with Doorbell(node.settings.data_dir / "run", SENDER).listen() as bell:
            for _ in range(2):  # a repeated answer changes nothing
                assert report(node, information("2.25.77", [reference]), as_provider) == 0x0000
            assert bell.wait(1.0)
        assert states(node) == ["committed"]
        assert report(node, information("2.25.78", [reference]), as_provider) == 0x0000
        assert report(node, Dataset(), as_provider) == 0x0115


def report(node: Node, answer: Dataset, as_provider: bool) -> int:
    """Send an N-EVENT-REPORT as a PACS does, with or without role negotiation."""
    proposal = Proposal(COMMITMENT_SOP_CLASS, as_provider=as_provider)
    with ClientAssociation(node.peer(), [proposal]) as association, association.exchange() as connection:
        if not len(answer):
            answer.AccessionNumber = "none"
        response, _ = connection.send_n_event_report(answer, 1, COMMITMENT_SOP_CLASS, "1.2.840.10008.1.20.1.1")
        return int(response.Status)


@pytest.mark.slow
def test_nothing_is_lost_under_load(tmp_path: Path) -> None:
    """Many jobs while two threads of the same process burn the processor: everything committed, no delivery repeated."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    for _ in range(2):
        threading.Thread(target=spin, daemon=True).start()
    try:
        with (
            node_and_pacs(tmp_path, own_association=False) as (node, pacs),
            running_sender(node.settings, node.store),
        ):
            for job in range(15):
                deliver(node, [instance(tmp_path / "in", f"{job}-{k}") for k in range(4)], job=str(job))
            wait_for(lambda: states(node) == ["committed"] * 60, "all committed", seconds=120)
            assert len(pacs.objects) == 60
            with node.store.read() as connection:
                attempts = set(connection.execute(select(tables.deliveries.c.attempts)).scalars())
            assert attempts == {1}
            assert pacs.objects.keys() == {uid("s", "instance", f"{job}-{k}") for job in range(15) for k in range(4)}
    finally:
        stop.set()
