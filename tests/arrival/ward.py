"""A node whose clock the test moves: real receiver, real sockets, real store; waits pass at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from node import planning
from node.archive import index, ledger, tables
from node.arrival import Instant
from node.dicom.outside import Outside
from node.jobs import queue
from node.why import tell
from tests.modality_simulator import Modality
from tests.network import Node, instance, running_node, uid, wait_for

RULE = {"name": "mr", "model": "m", "match": {}, "destinations": []}


@dataclass
class Clock:
    """The machine's clocks, moved ahead by ``offset`` seconds."""

    offset: float = 0.0
    boot: str = "boot"
    monotonic: Any = time.monotonic
    wall: Any = time.time

    def now(self) -> Instant:
        return Instant(self.boot, self.monotonic() + self.offset)

    def time(self) -> float:
        return float(self.wall() + self.offset)


@dataclass
class Ward:
    """Receives over the network, steps studies, and ends every run at once."""

    node: Node
    clock: Clock
    folder: Path
    ask_archive: bool = False
    outside: Outside = field(init=False)
    _modalities: list[Modality] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.outside = Outside(self.node.settings, self.node.store)

    # -- what happens -------------------------------------------------------------------------------------------------

    def modality(self, ae_title: str = "MODALITY") -> Modality:
        made = Modality(self.node.host, self.node.port, ae_title, released=self._ended)
        self._modalities.append(made)
        return made

    def _ended(self) -> None:
        """Wait until the node knows that an association has ended; a peer is through a moment earlier."""
        unended = tables.associations.c.closed_at.is_(None)
        wait_for(
            lambda: len(self.node.rows(tables.associations, unended)) <= sum(each.storing for each in self._modalities),
            "the end of the association",
        )

    def images(self, study: str, series: int, count: int, *, first: int = 0, **attributes: Any) -> list[Path]:
        """Files of one series."""
        return [
            instance(
                self.folder / "images",
                f"{series}-{number}",
                study=study,
                SeriesInstanceUID=uid(study, "series", series),
                SeriesNumber=series,
                **attributes,
            )
            for number in range(first, first + count)
        ]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, looking at studies whenever one of them is due."""
        until = self.clock.monotonic() + self.clock.offset + seconds
        while True:
            due = self.look()
            left = until - self.clock.monotonic() - self.clock.offset
            if left <= 0:
                return
            # The next look is when something is due, as the scheduler does it.
            self.clock.offset += min(left, due if due is not None else left)

    def settle(self, seconds: float = 7200.0) -> None:
        """Let as much time pass as it takes until nothing waits any more."""
        until = self.clock.offset + seconds
        while (due := self.look()) is not None and self.clock.offset < until:
            self.clock.offset += due

    def look(self) -> float | None:
        """Step every study that is due; seconds until the next one is, None where none waits."""
        if self.ask_archive:
            self.outside.count_waiting()
        settings = self.node.settings
        while True:
            with self.node.store.read() as connection:
                waiting = connection.execute(select(index.studies).where(index.studies.c.due_at.is_not(None))).all()
            at = self.clock.now()
            dues = {
                study.study_uid: due
                for study in waiting
                if (due := planning.waiting_in_seconds(study, at, settings)) is not None
            }
            ready = [study_uid for study_uid, due in dues.items() if due <= 0.0]
            if not ready:
                return min(dues.values(), default=None)
            for study_uid in ready:
                with self.node.store.write() as connection:
                    planning.step(connection, self.clock.time(), self.clock.now(), study_uid, settings)
            self._run_everything()

    def _run_everything(self) -> None:
        """Every run that is queued ends well at once, so that later ones have something to supersede."""
        with self.node.store.write() as connection:
            while job := queue.lease(connection, self.clock.time() + 1, owner="test", lease_seconds=60):
                queue.finish(connection, self.clock.time(), job.id, "test", result={"outcome": "found"})

    # -- what came of it ------------------------------------------------------------------------------------------------

    def decisions(self, study: str) -> list[Any]:
        """Ledger rows of final decisions."""
        return [row for row in self.node.ledger("arrival.decided") if row.study_uid == uid(study)]

    def runs(self, study: str) -> list[Any]:
        """Job rows, in their order."""
        return sorted(self.node.rows(tables.jobs, tables.jobs.c.study_uid == uid(study)), key=lambda row: row.id)

    def latency(self, study: str) -> float:
        """Seconds from the last image to the last decision."""
        received = self.node.rows(tables.instances, tables.instances.c.study_uid == uid(study))
        return float(self.decisions(study)[-1].at - max(row.received_at for row in received))

    def story(self, study: str) -> str:
        """What `ainode why` tells."""
        with self.node.store.read() as connection:
            return tell(connection, uid(study))

    def check(self, study: str) -> None:
        """No partial run without one that supersedes it, and no work done twice."""
        runs = self.runs(study)
        assert runs, "nothing ran"
        here = self.node.rows(tables.instances, tables.instances.c.study_uid == uid(study), tables.instances.c.active)
        taken = set(runs[-1].specification["files"])
        # A rule with roles takes all of the series they name.
        named = {row.series_uid for row in here if row.path in taken}
        roles = any(rule.role for rule in self.node.settings.rule)
        assert taken == {row.path for row in here if not roles or row.series_uid in named}
        assert not runs[-1].provisional
        assert len({run.input_key for run in runs}) == len(runs)
        assert [run.run for run in runs] == list(range(1, len(runs) + 1))
        with self.node.store.write() as connection:
            ledger.seal(connection)


@contextmanager
def open_ward(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    clock: Clock | None = None,
    rules: Sequence[Any] = (RULE,),
    **sections: Any,
) -> Iterator[Ward]:
    """A ward with its own node; time runs as the ward says, for the node's records as well."""
    clock = clock or Clock()
    patch.setattr(time, "time", clock.time)
    try:
        with running_node(folder, rule=list(rules), **sections) as node:
            yield Ward(node, clock, folder)
    finally:
        patch.undo()
