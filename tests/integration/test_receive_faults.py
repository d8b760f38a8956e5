"""The receiver when the disk is full, or when it is killed: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.errors import NodeError
from node.archive import tables
from node.archive.rescan import rescan
from node.archive.spool import dataset_digest
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.storage_scu import read_object_file, send_object, send_paths
from node.errors import PeerBusy
from node.settings import Settings
from tests.migrated import upgrade
from tests.network import MR, instance, node_settings, running_node
from tests.warm_start import WarmProcess, WarmStart

pytestmark = pytest.mark.usefixtures("lane")

EXPLICIT = "1.2.840.10008.1.2.1"


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a small tmpfs; skip where that is not allowed."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_really_fills_up(tmp_path: Path) -> None:
    big = [read_object_file(instance(tmp_path / "in", number, pixels=os.urandom(300_000))) for number in range(6)]
    with tiny_disk(tmp_path / "data" / "spool", "1m"), running_node(tmp_path) as node:
        stored = []
        with ClientAssociation(node.peer(), [Proposal(MR, (EXPLICIT,))]) as association:
            with pytest.raises(PeerBusy) as caught:
                for file in big:
                    send_object(association, file)
                    stored.append(file)
            assert caught.value.detail["status"] == 0xA700
            assert stored
            assert {dataset_digest(path) for path in node.files()} == {dataset_digest(file.path) for file in stored}
            # Room again: the same association, no restart.
            subprocess.run(
                ["mount", "-o", "remount,size=8m", str(tmp_path / "data" / "spool")], check=True, capture_output=True
            )
            for file in big:
                assert send_object(association, file).status == 0x0000
        assert len(node.files()) == len(node.rows(tables.instances)) == 6


_CHILD = """
import sys, threading
from pathlib import Path
from node.dicom.storage_scp import run_receiver
from node.settings import Settings
run_receiver(Settings.model_validate_json(Path(sys.argv[1]).read_text()), threading.Event())
"""


def start_receiver(settings: Settings, tmp_path: Path, warm: WarmStart) -> WarmProcess:
    configuration = tmp_path / "settings.json"
    configuration.write_text(settings.model_dump_json())
    with (tmp_path / "log.txt").open("ab") as log:
        return warm.start(_CHILD, [str(configuration)], errors=log.fileno())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["instance", "association"])
def test_killed_at_random_moments_loses_nothing_acknowledged(tmp_path: Path, warm: WarmStart, mode: str) -> None:
    dice = random.Random(7)
    settings = node_settings(tmp_path, receive={"mode": mode})
    settings.data_dir.mkdir(parents=True)
    upgrade(settings)
    peer = Peer(
        ae_title="AINODE",
        host="127.0.0.1",
        port=settings.receive.port,
        calling_ae_title="MODALITY",
        connect_timeout_seconds=2,
        response_timeout_seconds=5,
    )
    files = [read_object_file(instance(tmp_path / "in", number)) for number in range(400)]
    acknowledged: set[str] = set()
    pending = list(files)
    for _ in range(6):
        process = start_receiver(settings, tmp_path, warm)
        kill_at = None
        try:
            while pending and (kill_at is None or time.monotonic() < kill_at):
                try:
                    with ClientAssociation(peer, [Proposal(MR, (EXPLICIT,))]) as association:
                        kill_at = kill_at or time.monotonic() + dice.uniform(0.2, 1.0)
                        for file in list(pending):
                            if time.monotonic() >= kill_at:
                                # In the middle of a store: the request is out, the answer is not awaited.
                                os.kill(process.pid, signal.SIGKILL)
                            send_object(association, file)
                            acknowledged.add(dataset_digest(file.path))
                            pending.remove(file)
                except NodeError:
                    time.sleep(0.1)
        finally:
            process.kill()
            process.wait(10)
        if not pending:
            break
    with running_node(tmp_path, receive={"port": settings.receive.port}) as node:
        assert acknowledged
        if mode == "association":
            # Acknowledged before it is indexed: a receiver that starts looks at what the last one left.
            rescan(node.store, node.spool)
        on_disk = {dataset_digest(path) for path in node.files()}
        indexed = {row.digest for row in node.rows(tables.instances)}
        assert acknowledged <= on_disk
        assert acknowledged <= indexed
        # And what was not acknowledged can be sent again.
        assert send_paths(node.peer(), [file.path for file in files]).complete
        assert len(node.rows(tables.instances)) == len(files)
