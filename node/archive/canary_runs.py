"""Runs of the canary: which studies are its own, and how each of them ended."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from node.archive.tables import canary_runs
from node.settings import CANARY, RuleSection


class CanaryState(StrEnum):
    """How a run of the canary stands."""

    FLYING = "flying"
    BACK = "back"
    """Every result of it is committed by the test AE, and says what it must."""
    LOST = "lost"


class Stage(StrEnum):
    """How far a run came."""

    SEND = "send"
    ARRIVAL = "arrival"
    RUN = "run"
    ANSWER = "answer"
    DELIVERY = "delivery"
    COMMITMENT = "commitment"


def begin(connection: Connection, now: float, study_uid: str) -> int:
    """Enter a run before its study is sent, so that no other rule ever meets it; return its number."""
    result = connection.execute(
        insert(canary_runs).values(study_uid=study_uid, state=str(CanaryState.FLYING), begun_at=now)
    )
    number: Any = result.inserted_primary_key
    return int(number[0])


def end(
    connection: Connection, now: float, run_id: int, state: CanaryState, *, stage: str = "", message: str = ""
) -> None:
    """Note how a run ended. ``message`` holds nothing of a patient: there is none."""
    chosen = update(canary_runs).where(canary_runs.c.id == run_id)
    connection.execute(chosen.values(state=str(state), ended_at=now, stage=stage, message=message or None))


def latest(connection: Connection, limit: int = 1) -> list[Row[Any]]:
    """The runs that ended last, newest first."""
    ended = select(canary_runs).where(canary_runs.c.ended_at.is_not(None))
    return list(connection.execute(ended.order_by(canary_runs.c.id.desc()).limit(limit)))


def last_back(connection: Connection) -> Row[Any] | None:
    """The newest run that came back."""
    back = select(canary_runs).where(canary_runs.c.state == str(CanaryState.BACK))
    return connection.execute(back.order_by(canary_runs.c.id.desc()).limit(1)).one_or_none()


def abandoned(connection: Connection, now: float) -> None:
    """End runs that a dead process left flying."""
    flying = update(canary_runs).where(canary_runs.c.state == str(CanaryState.FLYING))
    connection.execute(flying.values(state=str(CanaryState.LOST), ended_at=now, message="the monitor ended"))


def uncleaned(connection: Connection) -> list[Row[Any]]:
    """Ended runs of which something may still be here, oldest first."""
    left = canary_runs.c.cleaned_at.is_(None) & canary_runs.c.ended_at.is_not(None)
    return list(connection.execute(select(canary_runs).where(left).order_by(canary_runs.c.id)))


def cleaned(connection: Connection, now: float, run_id: int) -> None:
    """Note that nothing of a run is here any more."""
    connection.execute(update(canary_runs).where(canary_runs.c.id == run_id).values(cleaned_at=now))


def forget(connection: Connection, before: float) -> None:
    """Remove rows of old runs that are cleaned."""
    old = (canary_runs.c.begun_at < before) & canary_runs.c.cleaned_at.is_not(None)
    connection.execute(delete(canary_runs).where(old))


def rules_for(connection: Connection, study_uid: str, rules: Sequence[RuleSection]) -> list[RuleSection]:
    """The rules a study may meet: the canary's studies meet its own rule only, and no other study meets that one."""
    if not any(rule.name == CANARY for rule in rules):
        return list(rules)
    found = select(canary_runs.c.id).where(canary_runs.c.study_uid == study_uid)
    own = connection.execute(found).first() is not None
    return [rule for rule in rules if (rule.name == CANARY) == own]
