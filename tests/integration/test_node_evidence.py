"""The whole node with worklist and MPPS: what was ordered, what decided, and how soon, in real time."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from node.dicom.pacs import TestPacs
from tests.modality_simulator import Modality
from tests.network import instance, tool_server, uid, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port
from tests.worklist_files import worklist_file

RULES = """
[[rule]]
name = "stroke"
model = "infarct-adc-baseline"
destinations = ["pacs"]
[rule.match.order]
priority = ["STAT"]
"""


@pytest.fixture
def worklist(tmp_path: Path) -> int:
    return free_port()


@pytest.mark.slow
def test_ordered_performed_answered(tmp_path: Path, worklist: int) -> None:
    folder = tmp_path / "worklists" / "RIS"
    worklist_file(folder, "a", datetime.now().replace(second=0, microsecond=0))
    (folder / "lockfile").touch()
    pacs = TestPacs(tmp_path / "pacs", ae_title="PACS")
    extra = (
        f'[worklist.ris]\nae_title = "RIS"\nhost = "127.0.0.1"\nport = {worklist}\ninterval_seconds = 1.0\n'
        "jitter_seconds = 0.2\n"
    )
    with (
        tool_server("wlmscpfs", "-csk", "-dfp", tmp_path / "worklists", worklist, port=worklist),
        pacs.running() as (_, port),
    ):
        node = NodeProcess(tmp_path / "node", {"pacs": ("PACS", port)}, extra=extra, rules=RULES)
        node.start()
        try:
            _run(node, pacs, tmp_path)
        finally:
            node.stop()


def _run(node: NodeProcess, pacs: TestPacs, folder: Path) -> None:
    wait_for(lambda: node.rows("SELECT 1 FROM orders"), "the worklist", seconds=90)
    (entry,) = node.json("worklist")
    assert (entry["state"], entry["intends"]) == ("expected", "stroke (stat)")
    study = uid("ordered", "a")
    files = [
        instance(
            folder / "images",
            number,
            study="s",
            StudyInstanceUID=study,
            PatientID="P-a",
            AccessionNumber="ACC-a",
            StudyID="1",
        )
        for number in range(4)
    ]
    modality = Modality("127.0.0.1", node.port)
    assert modality.begin_step("1.2.3", study) == 0
    with modality.association() as held:
        modality.store(files, over=held)
        # The association stays open: only the step's end tells that this is all.
        assert modality.end_step("1.2.3", files) == 0
        wait_for(lambda: _rows(node, "arrival.decided"), "the decision", seconds=20)
    (decided,) = _rows(node, "arrival.decided")
    received = max(row["at"] for row in _rows(node, "instance.received"))
    # Half of it is the test's own two messages; on a busy machine each takes longer.
    assert decided["at"] - received <= 3.0
    assert "4 of 4 instances by MPPS" in json.dumps(decided["detail"])
    wait_for(lambda: pacs.objects, "the answer", seconds=60)
    (answer,) = [dcmread(path) for path in pacs.objects.values()][:1]
    (request,) = answer.ReferencedRequestSequence
    assert (request.RequestedProcedureID, request.AccessionNumber) == ("RP-a", "ACC-a")
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "7000000100000000"
    story = node.cli("why", "ACC-a").stdout
    assert "MPPS COMPLETED from MODALITY: 4 instance(s) in 1 series" in story
    assert "order on worklist ris: MR at MR1, STAT" in story
    assert "Study Instance UID and patient agree" in story
    assert node.json("worklist")[0]["state"] == "images complete"
    dry = node.json("rules", "dry-run")
    (decision,) = dry[0]["decisions"]
    assert (decision["reason"], decision["rules"][0]["matched"]) == ("mpps", True)
    assert [each["reason"] for each in dry[0]["then"]] == ["mpps"]


def _rows(node: NodeProcess, kind: str) -> list[dict[str, Any]]:
    rows = node.rows("SELECT at, detail FROM ledger WHERE kind = ?", kind)
    return [{"at": at, "detail": json.loads(detail)} for at, detail in rows]
