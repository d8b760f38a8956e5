"""Evidence, orders, histories and earlier studies in the store, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from node import planning
from node.archive import evidence, history, index, orders, priors, tables
from node.archive.engine import Store
from node.archive.evidence import OPTIONAL, Statement
from node.archive.headers import InstanceHeader
from node.archive.priors import PriorFile
from node.arrival import Instant, ListedSeries, Source, StepStatus
from node.orders import Order
from node.replay import replay_since
from node.settings import ArrivalSection, Settings

pytest_plugins = ["tests.store_fixtures"]

STUDY, SERIES = "1.2.3", "1.2.3.4"


def header(number: int, **changes: Any) -> InstanceHeader:
    values = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
        "sop_instance_uid": f"{SERIES}.{number}",
        "study_uid": STUDY,
        "series_uid": SERIES,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "modality": "MR",
        "patient_id": "P1",
        "accession_number": "A1",
        **changes,
    }
    return InstanceHeader(**values)


def receive(connection: Connection, now: float, number: int, association: str = "a", **changes: Any) -> None:
    index.open_association(
        connection,
        now,
        association_id=association,
        calling_ae_title="MR1",
        called_ae_title="AINODE",
        address="127.0.0.1",
    )
    index.record_instance(
        connection,
        now,
        header=header(number, **changes),
        path=f"aa/{number}.dcm",
        digest=f"d{number}" * 8,
        size=10,
        association_id=association,
        calling_ae_title="MR1",
        called_ae_title="AINODE",
    )


def test_a_statement_takes_the_place_of_an_earlier_one_and_wakes_the_study(store: Store) -> None:
    def say(now: float, status: StepStatus, *uids: str) -> None:
        with store.write() as connection:
            evidence.state(connection, now, Statement(Source.MPPS, "1.9", STUDY, status, {SERIES: list(uids)}, "MR1"))

    # Before the first image: it stays.
    say(1.0, StepStatus.IN_PROGRESS)
    with store.write() as connection:
        receive(connection, 2.0, 1)
        index.record_evaluation(
            connection, 2.0, STUDY, state=index.StudyState.WAITING, due_at=None, arrival={"due_at": None}
        )
    say(3.0, StepStatus.COMPLETED, f"{SERIES}.1", f"{SERIES}.2")
    say(4.0, StepStatus.COMPLETED, f"{SERIES}.2", f"{SERIES}.1")
    with store.read() as connection:
        (row,) = evidence.of_study(connection, STUDY)
        assert (row.status, row.at, row.updated_at) == ("COMPLETED", 1.0, 4.0)
        listed = evidence.compared(row, {SERIES: frozenset([f"{SERIES}.1"])}, Instant("b", 1.0))
        assert listed.series == (ListedSeries(SERIES, 2, 1),)
        study = index.study(connection, STUDY)
        assert study is not None and study.due_at == 4.0
        said = select(tables.ledger).where(tables.ledger.c.kind == "evidence.received")
        assert len(connection.execute(said).all()) == 2, "the same again is no event"


def test_what_are_no_images_counts_where_it_is_here(store: Store) -> None:
    named = {SERIES: ["1"], f"{OPTIONAL}{SERIES}.9": ["2", "3"]}
    with store.write() as connection:
        evidence.state(connection, 1.0, Statement(Source.MPPS, "1.9", STUDY, StepStatus.COMPLETED, named))
    with store.read() as connection:
        (row,) = evidence.of_study(connection, STUDY)
    here = {SERIES: frozenset(["1"]), f"{SERIES}.9": frozenset(["2"])}
    at = Instant("b", 1.0)
    assert evidence.compared(row, here, at).series == (ListedSeries(SERIES, 1, 1), ListedSeries(f"{SERIES}.9", 1, 1))
    assert evidence.compared(row, {}, at).series == (ListedSeries(SERIES, 1, 0),)
    assert evidence.compared(row, {}, at, whole_studies=False).series == ()


def test_orders_come_change_and_go(store: Store) -> None:
    first = Order(study_uid=STUDY, accession_number="A1", patient_id="P1", step_id="S1", starts_at=100.0, modality="MR")
    second = Order(accession_number="A2", patient_id="P1", step_id="S2", starts_at=200.0, modality="MR")
    with store.write() as connection:
        assert orders.take(connection, 1.0, "ris", [first, second]) == (2, 0)
    with store.write() as connection:
        changed = Order(**{**first.to_dict(), "priority": "STAT", "procedure_codes": (), "protocol_codes": ()})
        assert orders.take(connection, 2.0, "ris", [changed]) == (0, 1)
        assert orders.gone(connection, 2.0, "ris", 0.0, 1000.0) == 1
        assert orders.gone(connection, 2.0, "ris", 0.0, 1000.0) == 0
    with store.read() as connection:
        (row,) = orders.about(connection, study_uid=STUDY, accession_numbers=[])
        assert Order.from_dict(row.content).priority == "STAT"
        assert [each.accession_number for each in orders.between(connection, 0.0, 300.0)] == ["A1", "A2"]
        near = {"patient_ids": ["P1"], "modalities": ["MR"], "since": 150.0, "until": 250.0}
        assert [each.accession_number for each in orders.of_patient(connection, **near)] == ["A2"]
    with store.write() as connection:
        orders.take(connection, 3.0, "ris", [second])
        assert [each.gone_at for each in orders.between(connection, 0.0, 300.0)] == [None, None]


def test_rhythm_is_learnt_from_studies_and_replay_decides_the_same(store: Store) -> None:
    policy = ArrivalSection(rhythm_minimum=4, quiet_seconds=20.0, association_end_quiet_seconds=5.0)
    settings = Settings(arrival=policy)
    monotonic = 0.0

    def study(number: int, gap: float) -> str:
        """A study of two associations with a pause between them."""
        nonlocal monotonic
        uid = f"{STUDY}.{number}"
        for part in (0, 1):
            with store.write() as connection:
                association = f"{number}-{part}"
                receive(
                    connection,
                    monotonic,
                    number * 10 + part,
                    association,
                    study_uid=uid,
                    series_uid=f"{uid}.1",
                )
                index.close_association(connection, monotonic, association, ending=index.Ending.RELEASED)
                planning.step(connection, monotonic, Instant("boot", monotonic), uid, settings)
            for _ in range(40):
                with store.write() as connection:
                    planning.step(connection, monotonic, Instant("boot", monotonic), uid, settings)
                monotonic += gap / 40 if part == 0 else 10.0
        return uid

    def runs(uid: str) -> int:
        with store.read() as connection:
            decided = select(tables.ledger.c.id).where(
                tables.ledger.c.kind == "arrival.decided", tables.ledger.c.study_uid == uid
            )
            return len(connection.execute(decided).all())

    before = [runs(study(number, 60.0)) for number in (1, 2)]
    after = study(3, 60.0)
    assert before == [2, 2], "unknown sender: the second association comes as a surprise"
    assert runs(after) == 1, "known sender: it is waited for"
    with store.read() as connection:
        learnt = history.rhythm_of(connection, "1.2.3.3", Instant("boot", 0.0), policy)
        assert learnt is not None and learnt.between_seconds == pytest.approx(90.0, abs=1.0)
        again = {each.study_uid: each for each in replay_since(connection, 0.0, settings)}
    for uid in (f"{STUDY}.1", after):
        replayed = [(each["run"], each["reason"]) for each in again[uid].decisions]
        assert replayed == [(each["run"], each["reason"]) for each in again[uid].then]
    with store.write() as connection:
        assert history.forget(connection, 1e9) > 0


def test_priors_have_a_limit_in_space_and_time(store: Store, tmp_path: Path) -> None:
    with store.write() as connection:
        for study, at in (("1.5", 100.0), ("1.6", 200.0), ("1.7", 300.0)):
            for number in range(2):
                file = tmp_path / f"{study}-{number}"
                file.write_bytes(b"x" * 10)
                made = header(number, study_uid=study, sop_instance_uid=f"{study}.{number}")
                assert priors.record(connection, at, made, PriorFile(file.name, "d", 10), root=tmp_path)
                assert not priors.record(connection, at, made, PriorFile(file.name, "d", 10), root=tmp_path)
        assert priors.space_used(connection) == 60
        assert [row.study_uid for row in priors.studies_of_patient(connection, "P1", apart_from="1.6")] == [
            "1.5",
            "1.7",
        ]
        # The oldest goes by age, the next by space.
        assert priors.make_room(connection, tmp_path, keep_bytes=1000, received_before=150.0) == 2
        assert priors.make_room(connection, tmp_path, keep_bytes=25, received_before=0.0) == 2
        assert [row.study_uid for row in priors.studies_of_patient(connection, "P1")] == ["1.7"]
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("1.")) == ["1.7-0", "1.7-1"]


def test_a_prior_that_the_archive_has_corrected_takes_the_place_of_the_old_one(store: Store, tmp_path: Path) -> None:
    """It is acknowledged, so it must be what is found; and under the patient whose it is now."""
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(b"x" * 10)
    with store.write() as connection:
        for name, patient in (("old", "P1"), ("new", "P2")):
            made = header(0, study_uid="1.5", sop_instance_uid="1.5.1", patient_id=patient)
            assert priors.record(connection, 100.0, made, PriorFile(name, name, 10), root=tmp_path)
        assert [row.path for row in priors.instances_of_study(connection, "1.5")] == ["new"]
        assert priors.studies_of_patient(connection, "P1") == []
        assert [row.study_uid for row in priors.studies_of_patient(connection, "P2")] == ["1.5"]
        assert priors.space_used(connection) == 10
    assert not (tmp_path / "old").exists()


def test_what_was_asked_for_as_a_prior_is_known_by_its_retrieval(store: Store) -> None:
    with store.write() as connection:
        number = priors.begin(connection, 100.0, study_uid="1.5", peer="pacs", method="move", order_id=None)
        # While it stands open, Move Originator or not; afterwards only what says so.
        assert priors.is_prior(connection, 101.0, "1.5", moved_by_us=False)
        assert not priors.is_prior(connection, 101.0, "1.6", moved_by_us=True)
        priors.end(connection, 110.0, number, completed=2, failed=0)
        assert priors.is_prior(connection, 111.0, "1.5", moved_by_us=True)
        assert not priors.is_prior(connection, 111.0, "1.5", moved_by_us=False)
        # An hour later the same study may be moved here to be run on.
        assert not priors.is_prior(connection, 3700.0, "1.5", moved_by_us=True)


def test_a_device_that_sent_here_before_brings_no_prior(store: Store) -> None:
    """A new series of a study that is just being fetched: filed as a prior, it would never be run on."""
    with store.write() as connection:
        opened = {"calling_ae_title": "MR1", "called_ae_title": "AINODE", "address": "127.0.0.1"}
        index.open_association(connection, 50.0, association_id="a", **opened)
        index.open_association(connection, 100.5, association_id="b", **{**opened, "calling_ae_title": "STORE2"})
        priors.begin(connection, 100.0, study_uid="1.5", peer="pacs", method="move", order_id=None)

        def is_prior(title: str | None, *, moved_by_us: bool = False) -> bool:
            return priors.is_prior(connection, 101.0, "1.5", moved_by_us=moved_by_us, foreign_title=title)

        assert not is_prior("MR1")
        # A store of the archive's that has never sent before, the archive itself, and whoever says why he sends.
        assert is_prior("STORE2") and is_prior(None) and is_prior(None, moved_by_us=True)
