"""The scheduler's step over a real store: jobs, holds, late images, clock steps, crashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from node import planning
from node.archive import index
from node.archive.engine import Store, open_store
from node.archive.headers import InstanceHeader
from node.archive.tables import ledger
from node.arrival import Instant
from node.jobs import queue
from node.settings import (
    ArrivalSection,
    DestinationSection,
    NodeSection,
    RuleMatch,
    RuleSection,
    Settings,
)
from node.why import tell
from tests.migrated import upgrade

STUDY = "1.2.3"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        node=NodeSection(data_dir=tmp_path),
        arrival=ArrivalSection(quiet_seconds=20, association_end_quiet_seconds=5),
        destination={"pacs": DestinationSection(ae_title="PACS", host="127.0.0.1", port=1)},
        rule=[
            RuleSection(name="mr", model="m", match=RuleMatch(modality=["MR"]), destinations=["pacs"], priority="stat"),
            RuleSection(name="ct", model="m", match=RuleMatch(modality=["CT"]), destinations=["pacs"]),
            RuleSection(name="quiet", model="n", match=RuleMatch(modality=["MR"]), destinations=["pacs"], shadow=True),
        ],
    )


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    upgrade(settings)
    opened = open_store(settings)
    yield opened
    opened.close()


class Node:
    """Receiver and scheduler as functions, with clocks that the test sets."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.wall = 1_000_000.0
        self.boot = "boot"
        self.monotonic = 50.0

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def receive(
        self, number: int, *, association: str = "a", digest: str = "d", patient: str = "P1", **extra: Any
    ) -> None:
        header = InstanceHeader(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            sop_instance_uid=f"{STUDY}.4.{number}",
            study_uid=STUDY,
            series_uid=f"{STUDY}.4",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            modality="MR",
            patient_id=patient,
            routing={"diffusion": True},
            **extra,
        )
        with self.store.write() as connection:
            index.open_association(
                connection,
                self.wall,
                association_id=association,
                calling_ae_title="MODALITY",
                called_ae_title="AINODE",
                address="127.0.0.1",
            )
            index.record_instance(
                connection,
                self.wall,
                header=header,
                path=f"aa/{STUDY}/{number}-{digest}.dcm",
                digest=digest * 64,
                size=10,
                association_id=association,
                calling_ae_title="MODALITY",
                called_ae_title="AINODE",
            )

    def close(self, association: str = "a", ending: index.Ending = index.Ending.RELEASED) -> None:
        with self.store.write() as connection:
            index.close_association(connection, self.wall, association, ending=ending)

    def due(self) -> float | None:
        with self.store.read() as connection:
            study = index.study(connection, STUDY)
        assert study is not None
        return planning.waiting_in_seconds(study, Instant(self.boot, self.monotonic), self.settings)

    def step(self) -> planning.Planned:
        with self.store.write() as connection:
            at = Instant(self.boot, self.monotonic)
            return planning.step(connection, self.wall, at, STUDY, self.settings)

    def jobs(self) -> list[Any]:
        with self.store.read() as connection:
            return sorted(queue.list_jobs(connection, study_uid=STUDY), key=lambda job: job.id)

    def kinds(self) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(select(ledger.c.kind).order_by(ledger.c.id)).scalars())

    def complete(self) -> planning.Planned:
        self.close()
        self.step()
        self.pass_time(5)
        return self.step()


@pytest.fixture
def node(store: Store, settings: Settings) -> Node:
    return Node(store, settings)


def test_complete_study_gets_its_jobs_once(node: Node) -> None:
    for number in range(3):
        node.receive(number)
    assert node.due() == 0.0
    assert node.step() == planning.Planned(20.0)
    assert node.due() == 20.0
    planned = node.complete()
    assert len(planned.jobs) == 2
    mr, quiet = node.jobs()
    assert (mr.rule, mr.run, mr.priority, mr.shadow) == ("mr", 1, queue.Priority.STAT, False)
    assert len(mr.specification["files"]) == 3
    assert mr.specification["destinations"] == {"default": ["pacs"]}
    assert quiet.shadow and quiet.specification["destinations"] == {}
    assert node.due() is None
    node.pass_time(1000)
    assert node.step().jobs == ()
    assert {"arrival.decided", "rule.matched", "rule.skipped", "job.queued"} <= set(node.kinds())
    with node.store.read() as connection:
        story = tell(connection, STUDY)
    assert "ended orderly" in story and "rule ct did not fire" in story and "'MR' does not match 'CT'" in story


def test_same_images_again_start_nothing_late_images_a_second_run(node: Node) -> None:
    node.receive(0)
    node.complete()
    node.receive(0, association="b")
    node.close("b")
    node.step()
    node.pass_time(30)
    assert node.step().jobs == ()
    node.receive(1, association="c")
    node.close("c")
    node.step()
    node.pass_time(5)
    assert len(node.step().jobs) == 2
    first, _, second, _ = node.jobs()
    assert (first.run, second.run) == (1, 2)
    # The first had not begun: only the whole study runs.
    assert (first.state, second.state) == ("cancelled", "queued")


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(node: Node, jump: float) -> None:
    node.receive(0)
    node.step()
    node.wall += jump
    assert node.due() == 20.0
    assert node.step().jobs == ()
    node.pass_time(19)
    assert node.step().jobs == ()
    # News are noticed although they bear an earlier time than what is known.
    node.receive(1)
    assert node.due() == 0.0
    node.step()
    node.pass_time(20)
    assert len(node.step().jobs) == 2
    assert len(node.jobs()[0].specification["files"]) == 2


def test_restart_of_the_machine_starts_the_wait_anew(node: Node) -> None:
    node.receive(0)
    node.step()
    node.boot, node.monotonic = "next", 3.0
    assert node.step().jobs == ()
    node.pass_time(20)
    assert len(node.step().jobs) == 2


def test_two_patients_are_held_before_anything_runs(node: Node) -> None:
    node.receive(0, patient="P1")
    node.complete()
    node.receive(1, patient="P2", association="b")
    planned = node.step()
    assert planned.held is not None and "P1" not in planned.held and "P2" not in planned.held
    assert {job.state for job in node.jobs()} == {"cancelled"}
    node.pass_time(100)
    assert node.step().jobs == ()
    assert "study.held" in node.kinds()
    with node.store.read() as connection:
        assert "STUDY HELD" in tell(connection, STUDY)


def test_a_correction_releases_what_was_held_for_two_patients(node: Node) -> None:
    node.receive(0, patient="P1")
    node.receive(1, patient="P2")
    node.complete()
    assert node.jobs() == []
    with node.store.read() as connection:
        assert planning.mixed_patients(connection, STUDY)
    # The modality sends the wrong one again under the right patient.
    node.receive(1, patient="P1", digest="e", association="b")
    node.close("b")
    assert node.step().jobs == ()
    node.pass_time(5)
    planned = node.step()
    assert planned.lifted and len(planned.jobs) == 2
    assert sorted(node.jobs()[0].specification["files"])[1].endswith("1-e.dcm")
    assert node.due() is None


def test_held_by_hand_and_released_runs_what_was_cancelled(node: Node) -> None:
    node.receive(0)
    node.complete()
    with node.store.write() as connection:
        assert planning.hold(connection, node.wall, STUDY, reason="operator: test")
        assert planning.hold(connection, node.wall, STUDY, reason="again") is None
    assert {job.state for job in node.jobs()} == {"cancelled"}
    with node.store.write() as connection:
        index.release_study(connection, node.wall, STUDY)
    assert len(node.step().jobs) == 2
    assert [job.run for job in node.jobs()] == [1, 1, 2, 2]


def test_a_step_that_was_rolled_back_is_repeated(node: Node) -> None:
    node.receive(0)
    node.close()
    node.step()
    node.pass_time(5)

    class Killed(Exception):
        pass

    def step_and_die() -> None:
        with node.store.write() as connection:
            at = Instant(node.boot, node.monotonic)
            assert planning.step(connection, node.wall, at, STUDY, node.settings).jobs
            raise Killed

    with pytest.raises(Killed):
        step_and_die()
    assert node.jobs() == []
    assert len(node.step().jobs) == 2
    assert node.kinds().count("arrival.decided") == 1


def test_lost_association_waits_for_the_long_quiet(node: Node) -> None:
    node.receive(0)
    node.close(ending=index.Ending.LOST)
    node.step()
    node.pass_time(19)
    assert node.step().jobs == ()
    node.pass_time(1)
    assert len(node.step().jobs) == 2
