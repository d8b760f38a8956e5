"""User Identity Negotiation and rates, against DCMTK's and our own requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.passcodes import line_for
from node.errors import PeerUnreachable
from tests.network import Node, instance, run_tool, running_node, wait_for

ECHO = [Proposal(str(Verification))]


def echo(peer: Peer) -> None:
    with ClientAssociation(peer, ECHO) as association, association.exchange() as connection:
        assert connection.send_c_echo().Status == 0x0000


def reasons(node: Node) -> set[str]:
    return {row.detail["reason"] for row in node.ledger("association.rejected")}


@pytest.mark.peer
def test_storescu_must_know_the_passcode(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(line_for("ct1", "secret"))
    file = instance(tmp_path / "in")
    receive = {"users": str(users), "require_user_identity": True}
    with running_node(tmp_path, receive=receive) as node:
        called = ("-aec", "AINODE", node.host, node.port, file)
        # -rsp: storescu fails unless the answer has the item of PS3.7 D.3.3.7.2.
        done = run_tool("storescu", "-usr", "ct1", "-pwd", "secret", "-rsp", *called)
        assert done.returncode == 0, done.stdout
        for words in (("-usr", "ct1", "-pwd", "wrong"), ("-usr", "ct2", "-pwd", "secret"), ("-usr", "ct1"), ()):
            done = run_tool("storescu", *words, *called)
            assert "Association Rejected" in done.stdout
        assert len(node.files()) == 1
        wait_for(lambda: reasons(node) == {"user identity not accepted"}, "the ledger row")
        assert "secret" not in str(node.ledger("association.rejected"))


def test_our_requests_carry_name_and_passcode(tmp_path: Path) -> None:
    users, passcode = tmp_path / "users", tmp_path / "passcode"
    users.write_text(line_for("ainode", "つうこう"), encoding="utf-8")
    passcode.write_text("つうこう\n", encoding="utf-8")
    with running_node(tmp_path, receive={"users": str(users)}) as node:
        echo(node.peer())  # not required
        echo(node.peer(username="ainode", passcode_file=passcode))
        for changes in ({"username": "ainode"}, {"username": "other", "passcode_file": passcode}):
            with pytest.raises(PeerUnreachable, match="rejected"):
                echo(node.peer(**changes))
        with pytest.raises(PeerUnreachable, match="cannot be read"):
            echo(node.peer(username="ainode", passcode_file=tmp_path / "absent"))


def test_identity_is_ignored_where_nobody_asks_for_it(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        echo(node.peer(username="anybody"))


def test_rates(tmp_path: Path) -> None:
    with running_node(tmp_path, receive={"rate_per_minute": 3, "rate_per_minute_of_address": 5}) as node:
        for _ in range(3):
            echo(node.peer())
        with pytest.raises(PeerUnreachable, match="temporary congestion"):
            echo(node.peer())
        echo(node.peer(calling_ae_title="OTHER"))
        with pytest.raises(PeerUnreachable, match="temporary congestion"):
            echo(node.peer(calling_ae_title="THIRD"))
        wait_for(lambda: reasons(node) == {"too many associations in a minute"}, "the ledger row")
        assert len(node.ledger("association.rejected")) == 1
