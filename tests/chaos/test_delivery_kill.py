"""kill -9 of the sender between any two steps: exactly one object in the PACS, and the right state afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from node.archive.engine import open_store
from node.archive.spool import dataset_digest
from node.dicom.pacs import TestPacs
from node.settings import Settings
from tests.chaos.durability_page import Findings
from tests.integration.test_send import deliver, destination, outbox_of, states
from tests.network import instance, wait_for
from tests.warm_start import WarmProcess, WarmStart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = [
    ("recover", "after", "what a dead sender left is taken up"),
    ("claim", "before", "nothing is claimed yet"),
    ("claim", "after", "deliveries are claimed, that is not committed"),
    ("_ready", "before", "deliveries are claimed"),
    ("send_object", "before", "the association is open, one object is stored"),
    ("_write", "after", "the next object is on the wire, its answer is not read"),
    ("send_object", "after", "its answer is read, not recorded"),
    ("stored", "after", "its answer is recorded, that is not committed"),
    ("_stored", "after", "its answer is recorded"),
    ("open_commitment", "before", "all are stored, no proof is asked for"),
    ("request_commitment", "before", "the transaction is on record, not asked for"),
    ("request_commitment", "after", "commitment is asked for"),
    ("resolve_commitment", "before", "the answer came, it is not recorded"),
    ("resolve_commitment", "after", "the proof is recorded, that is not committed"),
]


_CHILD = """
import os, sys, threading
from pathlib import Path
from node.settings import Settings
from node.archive.engine import open_store
from node.delivery import commitment_request, courier, outbox
from node.dicom import sending_lane
from node.delivery.sender import Sender
settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
def kill_after(owner, name, count):
    real = getattr(owner, name)
    seen = [0]
    def wrapped(*args, **kwargs):
        if sys.argv[3] == "before":
            seen[0] += 1
            if seen[0] == count: os.kill(os.getpid(), 9)
        result = real(*args, **kwargs)
        if sys.argv[3] == "after":
            seen[0] += 1
            if seen[0] == count: os.kill(os.getpid(), 9)
        return result
    setattr(owner, name, wrapped)
step = sys.argv[2]
if step != "none":
    owners = {"send_object": courier, "_write": sending_lane, "request_commitment": commitment_request}
    owners |= {"_ready": courier.Courier, "_stored": courier.Courier}
    owner = owners.get(step, outbox)
    # "claim" is called for STAT alone first.
    kill_after(owner, step, 2 if step in ("stored", "_stored", "send_object", "_write", "claim") else 1)
Sender(settings, open_store(settings)).run(threading.Event())
"""


def run_child(
    settings: Settings,
    tmp_path: Path,
    step: str,
    when: str,
    *,
    warm: WarmStart,
    until: Callable[[WarmProcess], bool],
) -> None:
    """A sender that kills itself before or after a step; ``none`` kills nothing."""
    configuration = tmp_path / "settings.json"
    configuration.write_text(settings.model_dump_json())
    with (tmp_path / "sender.txt").open("ab") as errors:
        process = warm.start(_CHILD, [str(configuration), step, when], errors=errors.fileno())
    try:
        wait_for(lambda: until(process), f"the sender killed at {step}", seconds=30)
        if step != "none":
            assert process.returncode == -signal.SIGKILL, (tmp_path / "sender.txt").read_text()[-3000:]
    finally:
        process.kill()
        process.wait(10)


class _Counting(TestPacs):
    """Counts what arrives, also what it has already."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.arrived: list[str] = []

    def _on_store(self, event: object) -> int:
        self.arrived.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[attr-defined]
        return super()._on_store(event)  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "when", "words"), STEPS, ids=[f"{when}-{step}" for step, when, _ in STEPS])
def test_killed_between_two_steps(
    tmp_path: Path, warm: WarmStart, delivery_findings: Findings, step: str, when: str, words: str
) -> None:
    files = [instance(tmp_path / "in", number) for number in range(3)]
    pacs = _Counting(tmp_path / "pacs")
    with pacs.running() as (_, port):
        target = destination(port, commitment=True, commitment_timeout_seconds=0.5)
        with outbox_of(tmp_path, {"pacs": target}) as (settings, store):
            deliver(settings, store, files)
            store.close()
            run_child(settings, tmp_path, step, when, warm=warm, until=lambda process: process.poll() is not None)
            again = open_store(settings)
            try:
                left = ", ".join(states(again))
                run_child(settings, tmp_path, "none", "", warm=warm, until=lambda _: states(again) == ["committed"] * 3)
                wait_for(lambda: states(again) == ["committed"] * 3, "everything")
            finally:
                again.close()
    repeated = len(pacs.arrived) - len(set(pacs.arrived))
    delivery_findings.add(
        "2. kill -9 of the sender",
        ("killed when", "states left behind", "objects in the PACS", "sent again, same bytes", "states in the end"),
        words,
        left,
        len(pacs.objects),
        repeated,
        "3 committed",
    )
    assert {dataset_digest(path) for path in pacs.objects.values()} == set(map(dataset_digest, files))
    assert pacs.conflicts == []
    # What had no answer is asked for, and what is there is not sent again.
    assert repeated == 0
