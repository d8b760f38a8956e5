"""A result that comes after the radiologist has signed."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.chaos.durability_page import Findings
from tests.hl7_messages import Client, report
from tests.integration.test_corrections import stage
from tests.integration.test_hl7 import OLD, listening
from tests.network import uid, wait_for

TABLE = "After the report"
COLUMNS = ("scenario", "policy", "what became of the result", "runs")


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("policy", ["mark", "withhold"])
def test_result_one_minute_after_signing(tmp_path: Path, policy: str, findings: Findings) -> None:
    with stage(tmp_path, further={"hl7": {"late_results": policy}}) as scene:
        scene.send(scene.images(OLD))
        scene.settle(uid("s"))
        signed = datetime.fromtimestamp(time.time() - 60.0).strftime("%Y%m%d%H%M%S")
        with listening(scene.node) as address, Client(*address) as client:
            assert client.send(report("ACC-7", signed=signed))[1][1] == "AA"
        scene.work()
        if policy == "mark":
            wait_for(lambda: scene.state_of("pacs") == ["stored"], "the result")
            became = "sent; its texts and every series description say that it is late"
        else:
            assert scene.deliveries() == []
            became = "not sent"
        (late,) = scene.node.ledger("result.late")
        seconds = late.detail["late_seconds"]
        assert 60 <= seconds < 120
        assert f"LATE, {seconds / 60:.1f} min after the report was signed" in scene.why(uid("s"))
        runs = len(scene.jobs())
    became = f"{became}; on `ainode discrepancies`"
    findings.add(TABLE, COLUMNS, "a result one minute after signing", f'`late_results = "{policy}"`', became, str(runs))
