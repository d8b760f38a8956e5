"""Who is let in, with the reasons of PS3.8 table 9-21, against DCMTK's own reading of them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.errors import PeerUnreachable
from tests.network import MR, Node, run_tool, running_node, wait_for
from tests.wire import COMMAND, LAST, WirePeer, command, data, padded

pytestmark = pytest.mark.usefixtures("lane")

ECHO = [Proposal(str(Verification))]


def rejection(node: Node, peer: Peer) -> tuple[int, int, int]:
    with pytest.raises(PeerUnreachable) as caught, ClientAssociation(peer, ECHO):
        pass
    detail = caught.value.detail
    return detail["result"], detail["source"], detail["diagnostic"]


@pytest.mark.peer
def test_echoscu_with_a_wrong_title_is_told_so(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        done = run_tool("echoscu", "-v", "-aec", "SOMEBODY", node.host, node.port)
        assert done.returncode != 0
        assert "Called AE Title Not Recognized" in done.stdout
        assert run_tool("echoscu", "-aec", "AINODE", node.host, node.port).returncode == 0
        wait_for(lambda: node.ledger("association.rejected"), "the ledger row")
        (row,) = node.ledger("association.rejected")
        assert row.detail["reason"] == "called AE title not recognised"
        assert row.detail["called_ae_title"] == "SOMEBODY"


def test_reasons(tmp_path: Path) -> None:
    allow = [{"ae_title": "MODALITY", "address": "127.0.0.0/8", "called_ae_titles": ["AINODE"]}]
    with running_node(tmp_path, receive={"allow": allow, "called_ae_titles": ["STROKE"]}) as node:
        assert rejection(node, node.peer(ae_title="ELSEWHERE")) == (1, 1, 7)
        assert rejection(node, node.peer(calling_ae_title="STRANGER")) == (1, 1, 3)
        # Known, but not for this title.
        assert rejection(node, node.peer(ae_title="STROKE")) == (1, 1, 7)
        with ClientAssociation(node.peer(), ECHO) as association:
            assert association.is_open


PROPOSED = {
    Verification: "echo",
    MR: "images",
    "1.2.392.200036.9116.7.8.1.1.1": "images",  # private, so any storage there may be
    ModalityPerformedProcedureStep: "performed_steps",
    InstanceAvailabilityNotification: "notifications",
    StorageCommitmentPushModel: "commitment",
}


@pytest.mark.parametrize("services", [[], ["images"], ["performed_steps", "notifications"], ["commitment"]])
def test_services(tmp_path: Path, services: list[str]) -> None:
    """What an entry of the list is not for is no context, beside others that are; an echo always is."""
    allow = [{"ae_title": "MODALITY", "address": "127.0.0.0/8", "services": services}]
    with running_node(tmp_path, receive={"allow": allow}) as node:
        entity = AE(ae_title="MODALITY")
        for each in PROPOSED:
            entity.add_requested_context(each)
        association = entity.associate(node.host, node.port, ae_title="AINODE")
        try:
            accepted = {context.abstract_syntax for context in association.accepted_contexts}
        finally:
            association.release()
        assert accepted == {
            each for each, service in PROPOSED.items() if service in ["echo", *(services or PROPOSED.values())]
        }


def test_a_context_is_for_its_own_service(tmp_path: Path) -> None:
    """A step that is reported on the context of an image: its sender was allowed images only."""
    step = [
        (0x0002, padded(ModalityPerformedProcedureStep)),
        (0x0100, b"\x40\x01"),
        (0x0110, b"\1\0"),
        (0x0800, b"\1\0"),
        (0x1000, padded("1.2.3.4")),
    ]
    content = b"\x40\0\x52\x02CS\x0c\0IN PROGRESS "
    with running_node(tmp_path) as node, WirePeer(node.port) as peer:
        peer.send(data(3, COMMAND | LAST, command(step)) + data(3, LAST, content))
        assert peer.answer().status == 0x0118


def test_address_that_is_on_no_list_learns_nothing(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"allow": [{"address": "192.0.2.0/24"}]}) as node:
        assert rejection(node, node.peer()) == (1, 1, 1)
        wait_for(lambda: node.ledger("association.rejected"), "the ledger row")
        (row,) = node.ledger("association.rejected")
        assert row.detail["address"] == "127.0.0.1"


def test_strangers_cannot_crowd_out_those_invited(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"allow": [{"address": "127.0.0.2/32"}], "maximum_associations": 2}) as node:
        strangers = [socket.create_connection((node.host, node.port)) for _ in range(100)]
        for stranger in strangers:
            stranger.sendall(b"\x01")
        entity = AE("MODALITY")
        entity.add_requested_context(Verification)
        association = entity.associate(node.host, node.port, ae_title="AINODE", bind_address=("127.0.0.2", 0))
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        association.release()
        for stranger in strangers:
            stranger.close()


def test_ipv6(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"host": "::1"}) as node, ClientAssociation(node.peer(), ECHO) as association:
        assert association.is_open


def test_too_many_is_a_passing_rejection(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"maximum_associations": 2}) as node:
        with ClientAssociation(node.peer(), ECHO), ClientAssociation(node.peer(), ECHO):
            assert rejection(node, node.peer()) == (2, 3, 2)

        def free() -> bool:
            try:
                with ClientAssociation(node.peer(), ECHO):
                    return True
            except PeerUnreachable:
                return False

        wait_for(free, "room again")


def test_a_scan_does_not_fill_the_ledger(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        for _ in range(5):
            rejection(node, node.peer(ae_title="GUESS"))
        wait_for(lambda: node.ledger("association.rejected"), "the ledger row")
        assert len(node.ledger("association.rejected")) == 1


def test_what_is_no_dicom_is_answered_once_and_read_no_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A web browser, a scanner or worse: megabytes of it must cost neither time nor log."""
    with running_node(tmp_path) as node:
        with socket.create_connection((node.host, node.port)) as stranger:
            stranger.settimeout(10)
            stranger.sendall(b"GET / HTTP/1.1\r\n")
            # PS3.8 9.3.8: A-ABORT, unrecognised PDU or none expected.
            assert stranger.recv(10)[0] == 0x07
            with pytest.raises(OSError):
                for _ in range(1000):
                    stranger.sendall(b"GET / HTTP/1.1\r\n" * 4096)
        assert sum("Unknown PDU" in record.getMessage() for record in caplog.records) == 1
        with ClientAssociation(node.peer(), ECHO) as association:
            assert association.is_open
