"""Studies of archives, changes of patients and signed reports in either store."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from node.archive import archive_studies, hl7_messages, orders, patient_changes, signed_reports, tables
from node.archive.engine import Store, open_store
from node.hl7.message import read
from node.hl7.patients import PatientChange
from node.hl7.reports import SignedReport
from node.listed import Finding, ListedStudy
from node.orders import Order
from node.patients import PatientIdentity
from node.settings import Settings
from tests.hl7_messages import message, patient
from tests.store_fixtures import (  # noqa: F401  (fixtures)
    postgresql,
    postgresql_template,
    sqlite_template,
    store_settings,
)


@pytest.fixture
def store(store_settings: Settings) -> Iterator[Store]:  # noqa: F811
    opened = open_store(store_settings)
    yield opened
    opened.close()


def test_each_study_is_claimed_once_stat_first(store: Store) -> None:
    with store.write() as connection:
        for number, priority in ((1, 2), (2, 0), (3, 2), (4, 2)):
            row = archive_studies.see(
                connection, 10.0, "pacs", ListedStudy(f"1.{number}", f"A{number}", starts_at=5.0 - number)
            )
            assert archive_studies.want(connection, 10.0, row, purpose="watch", priority=priority, method="auto")
            # Queued once; who wants it more makes it more urgent.
            again = archive_studies.want(
                connection, 10.0, row, purpose="reconcile", priority=min(priority, 1), method="get"
            )
            assert not again
    with store.write() as connection:
        first = archive_studies.claim(connection, 20.0, purposes=("watch", "reconcile"))
    assert first is not None and first.study_uid == "1.2"
    claimed: list[str] = []

    def work() -> None:
        while True:
            with store.write() as connection:
                row = archive_studies.claim(connection, 20.0, purposes=("watch", "reconcile"))
            if row is None:
                return
            claimed.append(row.study_uid)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == ["1.1", "1.3", "1.4"]
    with store.write() as connection:
        # A fetcher that died gives its study back, in the end.
        assert archive_studies.claim(connection, 3000.0, purposes=("watch", "reconcile")) is None
        row = archive_studies.claim(connection, 4000.0, purposes=("watch", "reconcile"))
        assert row is not None and row.attempts == 1
        state = archive_studies.ended(
            connection, 4000.0, row, method="get", completed=1, failed=1, seconds=1.0, message="away"
        )
        assert state == "waiting"
        archive_studies.found(connection, 1.0, row, Finding.MISSING, "words")


def test_what_hl7_says_is_kept(store: Store) -> None:
    merge = PatientChange("merge", "OLD", "", {"PatientID": "NEW", "PatientName": "A^B"})
    with store.write() as connection:
        assert patient_changes.enter(connection, 1.0, merge, source="ris", event="A40") == []
        assert patient_changes.current(connection, PatientIdentity("OLD")) == merge.content
        assert patient_changes.current(connection, PatientIdentity("NEW", name="A^B")) == {}
        signed_reports.enter(connection, 1.0, SignedReport("ACC", "", 5.0), source="ris")
        signed_reports.enter(connection, 2.0, SignedReport("ACC", "", 9.0), source="ris")
        signed_reports.enter(connection, 2.0, SignedReport("", "1.2", 7.0), source="ris")
        assert signed_reports.useful_until(connection, "1.2") == 7.0
        asked = read(message("ADT^A08", patient("P")))
        assert [hl7_messages.enter(connection, 1.0, asked) for _ in range(2)] == [True, False]
        assert orders.take(connection, 1.0, "hl7 RIS", [Order(accession_number="ACC")]) == (1, 0)
        assert orders.cancelled(connection, 2.0, "hl7 RIS", Order(accession_number="ACC"))
        assert not orders.cancelled(connection, 3.0, "hl7 RIS", Order(accession_number="ACC"))
        assert hl7_messages.forget(connection, 2.0) == 1 and signed_reports.forget(connection, 3.0) == 2
        # Merges hold for ever.
        assert patient_changes.forget(connection, 99.0) == 0
        assert len(connection.execute(tables.patient_changes.select()).all()) == 1
