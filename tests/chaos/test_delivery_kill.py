"""kill -9 of the sender between any two steps: exactly one object in the PACS, and the right state afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.archive.engine import open_store
from node.archive.spool import dataset_digest
from node.dicom.pacs import TestPacs
from tests.chaos.durability_page import Findings
from tests.integration.test_send import deliver, destination, outbox_of, run_child, states
from tests.network import instance, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(600)]

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
    tmp_path: Path, delivery_findings: Findings, step: str, when: str, words: str
) -> None:
    files = [instance(tmp_path / "in", number) for number in range(3)]
    pacs = _Counting(tmp_path / "pacs")
    with pacs.running() as (_, port):
        target = destination(port, commitment=True, commitment_timeout_seconds=0.5)
        with outbox_of(tmp_path, {"pacs": target}) as (settings, store):
            deliver(settings, store, files)
            store.close()
            run_child(settings, tmp_path, step, when, until=lambda process: process.poll() is not None)
            again = open_store(settings)
            try:
                left = ", ".join(states(again))
                run_child(settings, tmp_path, "none", "", until=lambda process: states(again) == ["committed"] * 3)
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
