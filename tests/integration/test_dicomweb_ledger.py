"""Who retrieved what by DICOMweb is in the ledger: once for many requests, and before the first is answered."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from node.archive import ledger, tables
from node.audit.translation import Translator
from node.errors import StoreUnavailable
from node.web.dicomweb.holdings import Holding
from node.web.dicomweb.retrievals import Retrievals
from tests.audit_judge import faults
from tests.network import Node, instance, running_node, uid
from tests.web_scene import receive, running_web

EVERYTHING = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with running_node(tmp_path / "node") as made:
        receive(made, [instance(tmp_path, n, study="a", PatientName="SECRET^NAME", PatientID="PID1") for n in range(3)])
        yield made


def rows(node: Node) -> list[Any]:
    kind = tables.ledger.c.kind == ledger.Kind.PERSON_RETRIEVED
    with node.store.read() as connection:
        return list(connection.execute(select(tables.ledger).where(kind).order_by(tables.ledger.c.id)))


def counted(node: Node) -> list[tuple[int, int, int, bool]]:
    names = ("requests", "series", "instances", "objects")
    return [tuple(row.detail[name] for name in names) for row in rows(node)]  # type: ignore[misc]


def test_hundreds_of_requests_are_two_rows_and_two_audit_messages(node: Node) -> None:
    with running_web(node.settings, node.store) as url:
        study = f"{url}/dicom-web/studies/{uid('a')}"
        held = httpx.get(f"{study}/metadata").json()
        assert counted(node) == [(1, 1, 3, False)], "on record before it was answered"
        one = held[0]
        path = f"{study}/series/{one['0020000E']['Value'][0]}/instances/{one['00080018']['Value'][0]}"
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: httpx.get(f"{path}/{'rendered' if n % 2 else 'metadata'}"), range(200)))
        assert {each.status_code for each in answers} <= {200, 410}, "there are no pixels to draw"
        assert httpx.get(study, headers={"Accept": EVERYTHING}).status_code == 200
        # What is not there, and what is only searched for, was not retrieved.
        httpx.get(f"{url}/dicom-web/studies/{uid('z')}/metadata")
        httpx.get(f"{url}/dicom-web/studies")
        assert len(rows(node)) == 1
    assert counted(node) == [(1, 1, 3, False), (201, 1, 3, True)], "the rest when the process ends"
    first, rest = rows(node)
    assert first.detail["study"] == uid("a") and first.detail["by"] == "127.0.0.1"
    assert "SECRET" not in str([row.detail for row in rows(node)]) and "PID1" not in str(
        [row.detail for row in rows(node)]
    )
    with node.store.read() as connection:
        messages = Translator(node.settings, connection).messages([first, rest])
    assert [each.event.value for each in messages] == ["110103", "110104"]
    for each in messages:
        assert faults(each.xml()) == []
        assert "127.0.0.1" in each.xml() and uid("a") in each.xml()


def holding(study: str, series: str, instance_uid: str) -> Holding:
    return Holding(instance_uid, "1.2", study, series, "1.2.1", Path("none"), 0, "MR")


def test_each_person_and_study_has_its_own_count_in_each_window(node: Node) -> None:
    at = [1000.0]
    retrievals = Retrievals(node.store, 60.0, clock=lambda: at[0])

    def ask(name: str, study: str, instance_uid: str) -> None:
        who = SimpleNamespace(actor=SimpleNamespace(facts=lambda: {"by": name, "via": "api", "address": "10.0.0.1"}))
        request: Any = SimpleNamespace(state=SimpleNamespace(person=who))
        retrievals.note(request, [holding(study, "1.3", instance_uid)], objects=True)

    try:
        for n in range(50):
            ask("ada", "1.2.3", f"1.{n % 5}")
            ask("bob", "1.2.3", "1.1")
        ask("ada", "1.2.4", "1.1")
        assert [(row.detail["by"], row.detail["study"]) for row in rows(node)] == [
            ("ada", "1.2.3"),
            ("bob", "1.2.3"),
            ("ada", "1.2.4"),
        ]
        at[0] += 61.0
        ask("ada", "1.2.4", "1.1")
        later = [(row.detail["by"], row.detail["requests"], row.detail["instances"]) for row in rows(node)[3:]]
        # Both counts of the first window, then the first of the next.
        assert later == [("ada", 49, 5), ("bob", 49, 1), ("ada", 1, 1)]
    finally:
        retrievals.close()
    assert len(rows(node)) == 6, "what was recorded is not recorded again"


def test_counts_are_recorded_though_nobody_comes_any_more(node: Node) -> None:
    retrievals = Retrievals(node.store, 0.2)
    who = SimpleNamespace(actor=SimpleNamespace(facts=lambda: {"by": "ada"}))
    request: Any = SimpleNamespace(state=SimpleNamespace(person=who))
    for _ in range(3):
        retrievals.note(request, [holding("1.2.3", "1.3", "1.4")], objects=False)
    timer = retrievals._timer
    assert timer is not None
    timer.join(10)
    assert [count[0] for count in counted(node)] == [1, 2]


def test_what_cannot_be_recorded_is_not_given_out(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_web(node.settings, node.store) as url:

        def full(*arguments: Any, **options: Any) -> None:
            raise StoreUnavailable("the database cannot be written")

        with monkeypatch.context() as patched:
            patched.setattr(ledger, "record", full)
            answer = httpx.get(f"{url}/dicom-web/studies/{uid('a')}/metadata")
            assert answer.status_code >= 500 and "SECRET" not in answer.text
        assert httpx.get(f"{url}/dicom-web/studies/{uid('a')}/metadata").status_code == 200
    assert len(rows(node)) == 1
