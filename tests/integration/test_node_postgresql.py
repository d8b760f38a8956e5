"""The whole node on PostgreSQL: one study end to end, everything killed in the middle."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.archive.engine import open_store
from node.delivery import outbox
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.settings import load
from tests.node_process import NodeProcess
from tests.peers import free_port
from tests.store_databases import PostgreSQL

pytest_plugins = ["tests.store_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(120)]


def test_study_through_and_everything_killed_meanwhile(postgresql: PostgreSQL, tmp_path: Path) -> None:
    postgresql.execute("CREATE DATABASE whole_node")
    pacs = TestPacs(tmp_path / "pacs", port=free_port(), ae_title="PACS")
    _, port = pacs.start()
    store = f'[store]\nurl = "{postgresql.url("whole_node")}"'
    node = NodeProcess(tmp_path / "node", {"pacs": ("PACS", port)}, extra=store)
    node.start()
    try:
        volume = make_phantom(71, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
        study = write_phantom_study(volume, tmp_path / "study", seed=71)
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
        assert send_paths(peer, study.files).complete
        # Success was said for every image: from here on nothing may be lost.
        node.kill_all()
        node.start()
        _wait_until_committed(node, 3)
        assert not (node.data / "node.db").exists()
        assert len(pacs.objects) == 3 and pacs.conflicts == []
        (job,) = node.json("jobs")
        assert (job["state"], job["outcome"], job["run"]) == ("done", "found", 1)
        (listed,) = node.json("studies")
        assert listed["runs"] == "infarct found"
        assert node.cli("ledger", "verify").returncode == 0
        assert "commitment answered" in node.cli("why", study.study_uid).stdout
        # The same study once more starts nothing.
        assert send_paths(peer, study.files).complete
        time.sleep(2.0)
        assert len(node.json("jobs")) == 1
        backup = node.cli("db", "backup", str(tmp_path / "copy"))
        assert backup.returncode == 0 and (tmp_path / "copy" / "node.pgdump").is_file(), backup.stderr
    finally:
        node.stop()
        pacs.stop()
    postgresql.execute("DROP DATABASE whole_node")


def _wait_until_committed(node: NodeProcess, count: int) -> None:
    store = open_store(load(node.config))
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            with store.read() as connection:
                states = [row.state for row in outbox.list_deliveries(connection)]
            if states == ["committed"] * count:
                return
            time.sleep(0.1)
    finally:
        store.close()
    raise AssertionError(f"{states}\n{node.log()[-3000:]}")
