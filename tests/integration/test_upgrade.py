"""An upgrade and a rollback under load: whoever calls waits and is never refused; nothing is lost, nothing comes twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from dicom_sr.phantom_study import write_phantom_study
from models.errors import NodeError
from models.phantom import make_phantom
from node.archive import migration
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.notify_socket import NotifySocket
from tests.network import instance, wait_for
from tests.node_process import NodeProcess
from tests.unit_manager import Manager

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(240)]

UNITS = ("receiver", "scheduler", "dispatcher-1", "sender")


class Modality(threading.Thread):
    """Opens one association after the other, each with a few images, and tries nothing twice."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._peer = Peer(
            ae_title="AINODE",
            host="127.0.0.1",
            port=port,
            calling_ae_title="MODALITY",
            # Its patience: a wait beyond it is a refusal.
            connect_timeout_seconds=60,
            response_timeout_seconds=60,
        )
        self.enough = threading.Event()
        self.stored: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        number = 0
        while not self.enough.wait(0.05):
            files = [instance(self._folder, number + each, study=f"load-{number}") for each in range(3)]
            number += 3
            try:
                summary = send_paths(self._peer, files)
            except NodeError as error:
                self.refused.append(str(error))
                continue
            if summary.complete:
                self.stored += [file.name for file in files]
            else:
                self.refused += [f"{each.path.name}: {each.detail}" for each in summary.reports]


def test_upgrade_and_rollback_under_load(tmp_path: Path) -> None:
    earlier = migration.lowest_reachable()
    pacs = TestPacs(tmp_path / "pacs", ae_title="PACS")
    with pacs.running() as (_, port), NotifySocket(tmp_path) as ear:
        node = NodeProcess(tmp_path / "node", {"pacs": ("PACS", port)})
        node.configure()
        assert node.cli("db", "upgrade").returncode == 0
        manager = Manager(node, ear, units=UNITS)
        modality = Modality(tmp_path / "load", node.port)
        try:
            manager.start_all()
            modality.start()
            # A study with results is under way each time the version changes.
            for turn, (words, seed) in enumerate(
                ((("downgrade", "--to", earlier), 81), (("upgrade",), 82), (("downgrade", "--to", earlier), 83))
            ):
                volume = make_phantom(seed, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
                study = write_phantom_study(volume, tmp_path / f"study-{seed}", seed=seed)
                assert send_paths(modality._peer, study.files).complete
                time.sleep(1.0)
                manager.stop_all()
                changed = node.cli("db", *words)
                assert changed.returncode == 0, changed.stderr
                if turn != 1:
                    # What the other version does at its start.
                    assert node.cli("db", "upgrade").returncode == 0
                manager.start_all()
            wait_for(lambda: len(pacs.objects) == 9, "results of three studies", seconds=90)
            wait_for(lambda: node.delivery_states() == ["committed"] * 9, "proof", seconds=60)
            assert [each["state"] for each in node.json("deliveries")] == ["committed"] * 9
        finally:
            modality.enough.set()
            modality.join(90)
            manager.close()
        assert modality.refused == [], node.log()[-3000:]
        assert len(modality.stored) > 30
        with closing(sqlite3.connect(node.data / "node.db")) as database:
            rows = database.execute(
                "SELECT sop_instance_uid, path FROM instances WHERE patient_id LIKE 'P-load%'"
            ).fetchall()
        assert len(rows) == len({uid for uid, _ in rows}) == len(modality.stored)
        assert all((node.data / "spool" / path).is_file() for _, path in rows)
        assert pacs.conflicts == [] and len(pacs.objects) == 9
        assert [each["run"] for each in node.json("jobs")] == [1, 1, 1]
        assert node.cli("ledger", "verify").returncode == 0
