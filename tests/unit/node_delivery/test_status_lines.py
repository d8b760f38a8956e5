"""What `ainode status` says of deliveries."""

from __future__ import annotations

import time
from typing import Any

from node.commands.status import _lines


def test_proofs_pauses_and_downtime_are_told() -> None:
    summary: dict[str, Any] = {
        "at": time.time(),
        "destinations": {"pacs": {"committed": 2, "stored": 3}},
        "proofs": {"pacs": {"commitment": 2, "query": 1, "unverifiable": 2}},
        "paused": [{"scope": "model", "name": "m", "by": "admin", "reason": "new scanner", "since": 0.0}],
        "downtime": {"pacs": time.mktime((2026, 11, 24, 3, 0, 0, 0, 0, -1))},
    }
    report = {
        "node": "n",
        "ae_title": "A",
        "version": "0",
        "uptime_seconds": 1.0,
        "listen": {"host": "h", "port": 1},
        "mode": "instance",
        "survives_power_cut": True,
        "processes": [],
        "summary": summary,
    }
    told = "\n".join(_lines(report))
    assert "2 committed, 3 stored, 1 of them found by query, 2 of them stored, UNVERIFIABLE" in told
    assert "PAUSED model m by admin: new scanner" in told
    assert "pacs: planned downtime until 2026-11-24 03:00" in told
