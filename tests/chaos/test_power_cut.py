"""Power cut and death of the process, at every system call of a reception: acknowledged = present.

The calls of a real receiver are recorded once; the disk is then rebuilt as it may lie there after a cut behind each
of them, and opened as a starting receiver does.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from node.archive.part10 import dataset_offset
from node.settings import Settings
from tests.chaos.durability_page import Findings
from tests.chaos.power_cut import Disk, Loss, tree, write_tree
from tests.chaos.tracing import NETWORK_CALLS, STORAGE_CALLS, Call, calls_of, require_tracing, traced
from tests.network import instance, node_settings
from tests.receiver_process import ReceiverProcesses, found_after_restart
from tests.warm_start import WarmStart
from tests.wire import COMMAND, LAST, WirePeer, data, store_command

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.timeout(900)]

INSTANCES = 4
SEED = 20261122
SHARE = 1.0 if os.environ.get("AINODE_PUBLISH") else 0.2
"""Of the calls between two answers, where every one leaves another state."""
MODES = ("instance", "association")
COLUMNS = ("mode", "what is lost", "cuts tried", "acknowledged at the last", "cuts that lost an acknowledged image")
TITLE = "Power cut"


@dataclass
class Recording:
    """A reception: what lay on the disk before, what the process had made of it, every call, and who is who."""

    settings: Settings
    root: Path
    before: dict[str, bytes | None]
    begun: dict[str, bytes | None]
    calls: list[Call]
    uids: dict[int, str]


@pytest.fixture(scope="module", params=MODES)
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, warm: WarmStart) -> Recording:
    """Two associations one after the other, the images of two studies, one sent twice, one changed and sent again."""
    require_tracing()
    folder = tmp_path_factory.mktemp(f"power-{request.param}")
    settings = node_settings(folder, receive={"mode": request.param})
    receivers = ReceiverProcesses(settings, warm=warm)
    before = tree(settings.data_dir)
    uids: dict[int, str] = {}
    try:
        receivers.start()
        begun = tree(settings.data_dir)
        with traced(receivers.processes[0].pid, folder / "trace", calls=f"{STORAGE_CALLS},{NETWORK_CALLS}"):
            for first in (1, 1 + INSTANCES // 2):
                with WirePeer(receivers.port) as peer:
                    for number in range(first, first + INSTANCES // 2):
                        uids[number] = _store(peer, folder, number, study=f"s{first}")
                    uids[100 + first] = _store(peer, folder, first, study=f"s{first}", message_id=100 + first)
                    uids[200 + first] = _store(
                        peer, folder, first, study=f"s{first}", message_id=200 + first, PatientName="Corrected^Case"
                    )
                    peer.release()
            time.sleep(0.5)
    finally:
        receivers.close()
    return Recording(settings, settings.data_dir, before, begun, calls_of(folder / "trace"), uids)


def _store(peer: WirePeer, folder: Path, number: int, *, study: str, message_id: int = 0, **changes: str) -> str:
    file = instance(folder / "in", number, study=study, **changes)
    sop, content = str(dcmread(file).SOPInstanceUID), file.read_bytes()[dataset_offset(file) :]
    peer.send(data(3, COMMAND | LAST, store_command(sop, message_id=message_id or number)) + data(3, LAST, content))
    assert peer.answer().status == 0
    return sop


@pytest.mark.parametrize("loss", list(Loss))
def test_cut(recording: Recording, loss: Loss, tmp_path: Path, findings: Findings) -> None:
    mode = recording.settings.receive.mode
    disk = Disk(recording.root, recording.before)
    disk.found(recording.begun)
    dice = random.Random(SEED)
    tried = losing = 0
    last: dict[str, bytes | None] = {}
    for call in recording.calls:
        if not disk.apply(call):
            continue
        state = disk.after(loss, dice)
        acknowledged = {recording.uids[number] for number in disk.acknowledged}
        answered = call.path.startswith("TCP")
        if not answered and (state == last or (loss in {Loss.RANDOM, Loss.NOTHING} and dice.random() > SHARE)):
            continue
        last = state
        tried += 1
        intact, indexed_before = _opened(recording, state, tmp_path / str(tried))
        losing += not acknowledged <= intact
        if mode == "instance" or loss is Loss.NOTHING:
            assert acknowledged <= intact, f"cut after {call.name} {call.path}: an acknowledged image is gone"
        if mode == "instance":
            # In mode association the row follows the answer; a starting receiver makes those that are missing.
            assert acknowledged <= indexed_before, f"cut after {call.name} {call.path}: an index row is gone"
    assert len(disk.acknowledged) == len(recording.uids), "the recording lacks acknowledgements"
    assert tried > INSTANCES
    findings.add(TITLE, COLUMNS, mode, loss, tried, len(disk.acknowledged), losing)


@pytest.mark.parametrize("forgotten", ["file", "folder", "database"])
def test_a_forgotten_sync_would_be_noticed(recording: Recording, forgotten: str, tmp_path: Path) -> None:
    """The same recording without one kind of sync loses acknowledged images: the model can tell."""
    if recording.settings.receive.mode != "instance":
        pytest.skip("mode association promises less")

    def kind(call: Call) -> str:
        if call.name not in {"fsync", "fdatasync"}:
            return ""
        return "folder" if not Path(call.path).suffix else "database" if "node.db" in call.path else "file"

    disk = Disk(recording.root, recording.before)
    disk.found(recording.begun)
    for call in recording.calls:
        if kind(call) != forgotten:
            disk.apply(call)
    state = disk.after(Loss.EVERYTHING, random.Random(SEED))
    intact, indexed = _opened(recording, state, tmp_path / "cut", promised=False)
    acknowledged = set(recording.uids.values())
    assert not acknowledged <= (indexed if forgotten == "database" else intact)


def _opened(
    recording: Recording, state: dict[str, bytes | None], folder: Path, *, promised: bool = True
) -> tuple[set[str], set[str]]:
    """SOP Instance UIDs that are there and intact after the rescan, and those indexed before it."""
    write_tree(folder / "data", state)
    node = recording.settings.node.model_copy(update={"data_dir": folder / "data"})
    intact, indexed, report = found_after_restart(recording.settings.model_copy(update={"node": node}))
    # The index never promises a file that is not there, whatever the mode.
    if promised:
        assert report.missing == []
        assert indexed <= intact
    return intact, indexed
