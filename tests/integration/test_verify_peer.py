"""``ainode verify-peer``: what it finds out of real peers, and that it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_sr.marked_object import PATIENT_NAME
from node.archive import tables
from node.cli import main
from node.delivery import capabilities
from node.dicom.pacs import TestPacs
from node.dicom.verify_peer import RESULT_CLASSES
from tests.network import Node, running_node, tool_server
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port, require

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def ask(node: Node, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command against ``[destination.pacs]`` of a node and return exit code and facts."""
    destination = node.settings.destination["pacs"]
    configuration = node.settings.data_dir.parent / "node.toml"
    configuration.write_text(
        f"[node]\ndata_dir = '{node.settings.data_dir}'\n[receive]\nport = {node.settings.receive.port}\n"
        f"[destination.pacs]\nae_title = '{destination.ae_title}'\nhost = '127.0.0.1'\nport = {destination.port}\n"
    )
    capsys.readouterr()
    code = main(["--config", str(configuration), "verify-peer", "pacs", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def target(port: int, ae_title: str = "TESTPACS") -> dict[str, Any]:
    return {"pacs": {"ae_title": ae_title, "host": "127.0.0.1", "port": port}}


def test_all_of_it_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pacs = TestPacs(tmp_path / "pacs")
    with pacs.running() as (_, port), running_node(tmp_path, destination=target(port)) as node:
        code, facts = ask(node, capsys, "--ask-only")
        assert (code, facts["trial"], len(pacs.objects)) == (0, None, 0)
        for _ in range(2):
            code, facts = ask(node, capsys)
        trial = facts["trial"]
        assert (code, facts["kept"], trial["store_status"], trial["problem"]) == (0, True, 0, "")
        assert (trial["found"], trial["committed"], trial["charset"]) == (True, True, "kept")
        assert trial["commitment_way"] == "on the same association"
        # Asked twice, the archive has one test object, with the characters it was sent with.
        (kept,) = pacs.objects.values()
        assert dcmread(kept).PatientName == PATIENT_NAME
        with node.store.read() as connection:
            known = capabilities.of(connection, "pacs")
        assert all(known.takes(uid) for uid in RESULT_CLASSES)
        assert known.charset == "utf-8"
        assert len(node.ledger("destination.verified")) == 3
        assert [row.outcome for row in node.rows(tables.commitments)] == [None, None]


@pytest.mark.peer
def test_orthanc_answers_at_the_receiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node_port = free_port()
    with (
        running_orthanc(tmp_path / "orthanc", node_port=node_port) as peer,
        running_node(tmp_path, receive={"port": node_port}, destination=target(peer.port, peer.ae_title)) as node,
    ):
        code, facts = ask(node, capsys)
        trial = facts["trial"]
        assert (code, trial["store_status"], trial["found"], trial["committed"]) == (0, 0, True, True)
        assert trial["commitment_way"] == "on an association of its own"
        assert trial["charset"] in ("kept", "changed")


@pytest.mark.peer
def test_a_peer_that_only_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    (tmp_path / "out").mkdir()
    with (
        tool_server("storescp", "+xi", "-od", tmp_path / "out", port, port=port),
        running_node(tmp_path, destination=target(port, "STORESCP")) as node,
    ):
        code, facts = ask(node, capsys)
        assert code == 1  # commitment is configured, and refused
        trial = facts["trial"]
        assert (trial["store_status"], trial["found"], trial["committed"]) == (0, None, None)
        assert trial["sent_in"] == "1.2.840.10008.1.2"
        taken = {each["sop_class_uid"]: each["transfer_syntax_uids"] for each in facts["contexts"]}
        assert taken[RESULT_CLASSES[0]] == ["1.2.840.10008.1.2"]
        assert taken[LABEL_MAP] == []
        with node.store.read() as connection:
            known = capabilities.of(connection, "pacs")
        assert not known.takes(LABEL_MAP)
        (kept,) = (tmp_path / "out").iterdir()
        assert dcmread(kept).PatientName == PATIENT_NAME


@pytest.mark.peer
def test_the_test_object_is_a_good_one(tmp_path: Path) -> None:
    import subprocess

    from dicom_sr.identity import OFFLINE
    from dicom_sr.marked_object import marked_object

    path = tmp_path / "marked.dcm"
    path.write_bytes(marked_object(OFFLINE).content)
    assert path.read_bytes() == marked_object(OFFLINE).content
    checked = subprocess.run([require("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in checked.stderr + checked.stdout, checked.stderr
    shown = subprocess.run([require("dsrdump"), str(path)], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
