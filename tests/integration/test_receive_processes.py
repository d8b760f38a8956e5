"""Several receiver processes on one port: what one leaves behind, and what the others go on with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from pydicom import dcmread

from node.archive.engine import open_store
from node.archive.part10 import dataset_offset
from node.archive.spool import Spool
from node.dicom.filing import Filing
from tests.migrated import upgrade
from tests.network import instance, node_settings, wait_for
from tests.receiver_process import ROOT, receivers
from tests.wire import WirePeer


def test_the_associations_of_a_killed_receiver_end_and_those_of_the_other_go_on(tmp_path: Path) -> None:
    files = [instance(tmp_path / "in", number, study=f"s{number}") for number in range(16)]
    with receivers(tmp_path / "node", count=2, receive={"processes": 2}) as node:
        peers = [WirePeer(node.port) for _ in files]
        try:
            for peer, file in zip(peers, files, strict=True):
                assert peer.store(str(dcmread(file).SOPInstanceUID), file.read_bytes()[dataset_offset(file) :]) == 0
            node.processes[0].kill()
            node.processes[0].wait(10)
            alive = [peer for peer in peers if _is_served(peer)]
            store = open_store(node.settings)
            try:
                Filing(node.settings, store, Spool(node.settings.data_dir / "spool", 0)).close_lost(time.time())
            finally:
                store.close()
            open_ones = node.rows("SELECT count(*) FROM associations WHERE closed_at IS NULL")
            lost = node.rows("SELECT count(*) FROM associations WHERE ending = 'lost'")
            assert (open_ones, lost) == ([(len(alive),)], [(len(peers) - len(alive),)])
            assert 0 < len(alive) < len(peers), "both had some"
        finally:
            for peer in peers:
                peer.close()
        wait_for(lambda: not node.rows("SELECT id FROM associations WHERE closed_at IS NULL"), "the others to end")


def _is_served(peer: WirePeer) -> bool:
    try:
        return peer.echo() == 0
    except ConnectionError:
        return False


_STARTED = """
import sys, threading
from pathlib import Path
from node.dicom.storage_scp import run_receiver
from node.settings import Settings
stopped = threading.Event()
stopped.set()
run_receiver(Settings.model_validate_json(Path(sys.argv[1]).read_text()), stopped)
unwanted = "highdicom onnxruntime torch scipy SimpleITK".split()
print([name for name in unwanted if name in sys.modules])
"""


def test_a_receiver_loads_neither_models_nor_what_makes_objects(tmp_path: Path) -> None:
    """A receiver stays small. (pydicom loads its codecs by itself; nothing calls them.)"""
    settings = node_settings(tmp_path)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(settings)
    file = tmp_path / "settings.json"
    file.write_text(settings.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", _STARTED, str(file)], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
