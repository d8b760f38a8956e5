"""What arrival and rules would have done with what has arrived: the recorded events, folded again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from node import arrival, routing
from node.archive import history, index, ledger
from node.archive.history import Recorded
from node.archive.tables import ledger as ledger_table
from node.arrival import Decision, InstanceStored, Instant, State, Tick
from node.ordering import ordered
from node.planning import wants_early
from node.runs import facts_of, minute_of_day
from node.settings import ArrivalSection, Settings


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision of a replay: when (seconds since the epoch), and how long after the last image."""

    at: float
    after_last_image: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Replayed:
    """One study's replay, beside what was decided at the time."""

    study_uid: str
    instances: int
    decisions: list[dict[str, Any]] = field(default_factory=list)
    then: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def replay(recorded: Sequence[Recorded], policy: ArrivalSection, *, early: bool = False) -> list[Decided]:
    """Fold recorded events, with a look at the study whenever its time has come.

    The looks of the time itself are left out: another policy looks at other times. What was learnt of senders is among
    the events, so that the same policy decides the same.
    """
    state, decided = State(), []
    last_image = 0.0
    events = [each for each in recorded if not isinstance(each.event, Tick)]
    for number, each in enumerate(events):
        state, decision = arrival.step(state, each.event, policy, early=early)
        if isinstance(each.event, InstanceStored):
            last_image = each.wall
        if decision is not None:
            decided.append(Decided(each.wall, each.wall - last_image, decision))
        following = events[number + 1].event.at if number + 1 < len(events) else None
        state, looked = _looks(state, each, following, policy, early=early)
        decided += [Decided(wall, wall - last_image, decision) for wall, decision in looked]
    return decided


def _looks(
    state: State, after: Recorded, until: Instant | None, policy: ArrivalSection, *, early: bool
) -> tuple[State, list[tuple[float, Decision]]]:
    """Every look that decides before the next event."""
    at, found = after.event.at, []
    while (due := arrival.due_in_seconds(state, at, policy, early=early)) is not None:
        at = Instant(at.boot_id, at.seconds + due)
        # Events of one moment belong together; and of another boot, nobody knows how long it was off.
        if until is not None and (until.boot_id != at.boot_id or at.seconds >= until.seconds):
            break
        state, decision = arrival.step(state, Tick(at), policy, early=early)
        if decision is None:
            break
        found.append((after.wall + at.seconds - after.event.at.seconds, decision))
    return state, found


def replay_since(connection: Connection, since: float, settings: Settings) -> Iterator[Replayed]:
    """Replay every study of which something happened since a time, with the rules of these settings."""
    for study_uid, recorded in history.studies_since(connection, since):
        study = index.study(connection, study_uid)
        if study is None:
            continue
        rows = index.instances_of_study(connection, study_uid)
        decided = replay(recorded, settings.arrival, early=wants_early(settings))
        yield Replayed(
            study_uid,
            len(rows),
            [_with_rules(connection, study, rows, each, settings) for each in decided],
            _then(connection, study_uid),
        )


def _with_rules(
    connection: Connection, study: Row[Any], rows: Sequence[Row[Any]], decided: Decided, settings: Settings
) -> dict[str, Any]:
    decision = decided.decision
    here = [
        row
        for row in rows
        if row.received_at <= decided.at + 1e-3 and (decision.final or row.series_uid in decision.series)
    ]
    circumstances = routing.Circumstances(study.study_uid, ordered(connection, study).orders, minute_of_day(decided.at))
    rules = [rule for rule in settings.rule if decision.final or rule.early]
    verdicts = routing.match(rules, [facts_of(row) for row in here], circumstances)
    return {
        "at": decided.at,
        "after_last_image": round(decided.after_last_image, 3),
        "final": decision.final,
        "run": decision.run,
        "reason": decision.reason,
        "evidence": list(decision.evidence),
        "rules": [
            {
                "rule": verdict.rule.name,
                "matched": verdict.matched,
                "instances": sum(verdict.series is None or row.series_uid in verdict.series for row in here),
                "explanation": list(verdict.explanation),
            }
            for verdict in verdicts
        ],
    }


def _then(connection: Connection, study_uid: str) -> list[dict[str, Any]]:
    decided = (ledger_table.c.study_uid == study_uid) & (ledger_table.c.kind == ledger.Kind.ARRIVAL_DECIDED)
    rows = connection.execute(select(ledger_table).where(decided).order_by(ledger_table.c.id))
    return [{"at": row.at, "run": row.detail.get("run"), "reason": row.detail.get("reason")} for row in rows]
