"""The dispatcher around a remote model: what it sent and what was wrong with the answer stand in the ledger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models.phantom import LesionSpec, make_phantom
from node.archive.tables import ledger
from tests.chat_server import chat_server, words
from tests.integration.test_node_jobs import ROOT, Bench
from tests.unit.node_remote import whole

REMOTE = """
[remote]
enabled = true
hosts = ["127.0.0.1"]
[remote.endpoint.medgpt]
url = "{url}"
model = "tiny-vlm"
"""


def lying(request: dict[str, Any]) -> str:
    """The facts with the other side."""
    other = {"left": "right", "right": "left"}
    facts = next(line for line in reversed(words(request).splitlines()) if "infarct" in line)
    return re.sub("left|right", lambda m: other[m.group()], facts)


def test_a_false_side_is_in_the_ledger_with_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    phantom = make_phantom(
        4, shape_zyx=(24, 96, 96), spacing_mm_zyx=(6.0, 2.3, 2.3), noise=0.03, lesions=[LesionSpec(14.0)]
    )
    files = whole.study(tmp_path / "in", phantom)
    with chat_server(lying) as server:
        rule = '[[rule]]\nname = "real-remote"\nmodel = "infarct-adc-baseline"\nreport_model = "medgpt"\n'
        bench = Bench(tmp_path, "echo", f'{rule}destinations = ["pacs"]\n{REMOTE.format(url=server.url)}')
        try:
            bench.receive(tuple(files))
            while bench.dispatcher.run_once():
                pass
            with bench.store.read() as connection:
                rows = connection.execute(select(ledger.c.kind, ledger.c.job_id, ledger.c.detail)).all()
            found = {row.kind: row for row in rows if row.kind in ("remote.answered", "text.objected")}
            assert found["remote.answered"].detail["model"] == "tiny-vlm"
            assert found["remote.answered"].job_id == found["text.objected"].job_id == 2
            assert any("side" in each for each in found["text.objected"].detail["objections"])
            assert found["text.objected"].detail["policy"] == "block"
            assert {row.role for row in bench.objects(2)} >= {"seg", "measurements"}
            assert bench.job(2).state == "done"
        finally:
            bench.executor.close()
            bench.store.close()
