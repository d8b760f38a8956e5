"""Several receiver processes on one port: what one leaves behind, and what the others go on with."""

from __future__ import annotations

import time
from pathlib import Path

from pydicom import dcmread

from node.archive.engine import open_store
from node.archive.part10 import dataset_offset
from node.archive.spool import Spool
from node.dicom.filing import Filing
from tests.network import instance, wait_for
from tests.receiver_process import receivers
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
