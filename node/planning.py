"""From what the index knows of a study to what is to be done: one short transaction for each study.

The decision, its evidence, the jobs it starts and the ledger rows are written together or not at all; so a process
killed at any line repeats the step from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, true

from node import arrival, correction
from node.archive import copies, history, index, ledger, patient_changes
from node.archive.tables import instances
from node.arrival import Decision, Event, Instant, Phase, State, Tick
from node.evidence import Counts, gather
from node.jobs import queue
from node.patients import contradiction
from node.requests import start_requests
from node.runs import start_runs
from node.settings import Settings

_STATES = {
    Phase.WAITING: index.StudyState.WAITING,
    Phase.PROVISIONAL: index.StudyState.PROVISIONAL,
    Phase.COMPLETE: index.StudyState.COMPLETE,
}
MIXED_PATIENTS = "mixed-patients"
HALF_CORRECTED = "half-corrected"


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step did.

    Attributes
    ----------
    due_in_seconds : float or None
        When to look again without news.
    jobs : tuple of int
        Jobs queued.
    held : str or None
        Set when this step held the study: why.
    lifted : bool
        This step released the study, because a correction removed the reason for which it was held.
    outdated : int
        Set when a correction came: deliveries of the study whose destination has, or may have, an old identity.
    """

    due_in_seconds: float | None = None
    jobs: tuple[int, ...] = ()
    held: str | None = None
    lifted: bool = False
    outdated: int = 0


def waiting_in_seconds(study: Row[Any], at: Instant, settings: Settings) -> float | None:
    """Seconds until a study needs a step; 0 when there is news, None when only news can change anything.

    News are told by ``due_at`` differing from what the last step stored, so that no wall clock is compared.
    """
    if study.due_at != study.arrival.get("due_at"):
        return 0.0
    state = State.from_dict(study.arrival.get("state", {}))
    return arrival.due_in_seconds(state, at, settings.arrival, early=wants_early(settings))


def step(connection: Connection, now: float, at: Instant, study_uid: str, settings: Settings) -> Planned:
    """Take everything into account that happened to a study, decide, and queue what follows.

    Parameters
    ----------
    now : float
        Seconds since the epoch, for the records.
    at : Instant
        The monotonic clock, for the waits.
    """
    study = connection.execute(
        select(index.studies).where(index.studies.c.study_uid == study_uid).with_for_update()
    ).one_or_none()
    if study is None:
        return Planned()
    state = State.from_dict(study.arrival.get("state", {}))
    corrected = study.corrected_at != study.arrival.get("corrected_at")
    correcting = corrected or study.arrival.get("correcting", False)
    news = gather(connection, study, state, at, settings)
    state, decisions = _folded(connection, now, study.study_uid, state, [*news.events, Tick(at)], settings)
    final = [each for each in decisions if each.final]
    lifted, held = False, None
    # While a correction arrives, some images say one thing and some another: only at its end that is a contradiction.
    if final or not correcting:
        lifted = correcting and _lift(connection, now, study)
        held = None if study.held_reason is not None else _hold_if_contradictory(connection, now, study)
    queued: list[int] = []
    for decision in final[-1:] or ([] if correcting else decisions[-1:]):
        why = held or (None if lifted else study.held_reason)
        queued = _decided(connection, now, study, decision, settings, held=why)
    due_in = arrival.due_in_seconds(state, at, settings.arrival, early=wants_early(settings))
    _store(connection, now, study, state, due_in, news.counted, correcting=correcting and not final)
    outdated = len(correction.outdated_deliveries(connection, study_uid=study_uid)) if corrected else 0
    return Planned(due_in, tuple(queued), held, lifted, outdated)


def wants_early(settings: Settings) -> bool:
    """Whether any rule may run before its study is complete."""
    return any(rule.early for rule in settings.rule)


def _folded(
    connection: Connection, now: float, study_uid: str, state: State, events: list[Event], settings: Settings
) -> tuple[State, list[Decision]]:
    """Take events into account, and keep them: all but the looks that decided nothing."""
    decisions, kept = [], []
    for event in events:
        state, decision = arrival.step(state, event, settings.arrival, early=wants_early(settings))
        if decision is not None:
            decisions.append(decision)
        if decision is not None or not isinstance(event, Tick):
            kept.append(event)
    history.record(connection, now, study_uid, kept)
    return state, decisions


def _store(
    connection: Connection,
    now: float,
    study: Row[Any],
    state: State,
    due_in: float | None,
    counted: Counts,
    *,
    correcting: bool,
) -> None:
    due_at = None if due_in is None else now + due_in
    index.record_evaluation(
        connection,
        now,
        study.study_uid,
        state=_STATES[state.phase],
        due_at=due_at,
        arrival={
            "state": state.to_dict(),
            "counted": counted,
            "released_at": study.released_at,
            "corrected_at": study.corrected_at,
            "correcting": correcting,
            "due_at": due_at,
        },
    )


def mixed_patients(connection: Connection, study_uid: str) -> str | None:
    """Say how the images of a study contradict each other about the patient; None when they do not."""
    found = connection.execute(
        select(
            instances.c.patient_id,
            instances.c.issuer_of_patient_id,
            instances.c.patient_name,
            instances.c.patient_birth_date,
            instances.c.corrected_at,
        )
        .where(
            instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours, ~instances.c.derived
        )
        .distinct()
    ).all()
    # Two numbers that were merged are one patient.
    return contradiction(
        patient_changes.holding(connection, patient_changes.identity_of(row), row.corrected_at) for row in found
    )


def half_corrected(connection: Connection, study_uid: str) -> str | None:
    """Say how many images a correction has not reached; None when it has reached all that it concerns."""
    left, total = copies.stragglers(connection, study_uid)
    if not left:
        return None
    return f"{len(left)} of {total} images still carry what was corrected in the others"


def leave_out_stragglers(connection: Connection, now: float, study: Row[Any]) -> int:
    """Where a study is held for it, let the images count no more that a correction has not reached.

    Returns
    -------
    int
        How many these were.
    """
    if not (study.held_reason or "").startswith(f"{HALF_CORRECTED}:"):
        return 0
    left, _ = copies.stragglers(connection, study.study_uid)
    copies.leave_out(connection, now, left)
    return len(left)


def _hold_if_contradictory(connection: Connection, now: float, study: Row[Any]) -> str | None:
    reason = _contradiction(connection, study)
    return None if reason is None else hold(connection, now, study.study_uid, reason=reason)


def _contradiction(connection: Connection, study: Row[Any]) -> str | None:
    """Why a study has to be held by what its images say; None where there is no reason."""
    if study.corrected_at is not None and (words := half_corrected(connection, study.study_uid)) is not None:
        return f"{HALF_CORRECTED}: {words}"
    if (words := mixed_patients(connection, study.study_uid)) is not None:
        return f"{MIXED_PATIENTS}: {words}"
    return None


def _lift(connection: Connection, now: float, study: Row[Any]) -> bool:
    """Release a study that the node itself held, where a correction has removed the reason."""
    held = study.held_reason or ""
    if not held.startswith((f"{MIXED_PATIENTS}:", f"{HALF_CORRECTED}:")):
        return False
    if _contradiction(connection, study) is not None:
        return False
    return index.release_study(connection, now, study.study_uid, by_correction=True)


def hold(connection: Connection, now: float, study_uid: str, *, reason: str) -> str | None:
    """Hold a study and cancel its jobs; return the reason, or None where it was held already or is unknown."""
    if not index.hold_study(connection, now, study_uid, reason=reason):
        return None
    waiting = (queue.JobState.QUEUED, queue.JobState.RUNNING)
    for job in queue.list_jobs(connection, states=waiting, study_uid=study_uid):
        # What a status tells of has happened; it stays here with everything else until the study is released.
        if job.kind != queue.JobKind.STATUS:
            queue.cancel(connection, now, job.id)
    return reason


def _decided(
    connection: Connection, now: float, study: Row[Any], decision: Decision, settings: Settings, *, held: str | None
) -> list[int]:
    ledger.record(
        connection,
        now,
        ledger.Kind.ARRIVAL_DECIDED if decision.final else ledger.Kind.ARRIVAL_PROVISIONAL,
        study_uid=study.study_uid,
        run=decision.run,
        reason=decision.reason,
        evidence=list(decision.evidence),
        instances=decision.instances,
        series=len(decision.series) if not decision.final else None,
        held=held,
    )
    if decision.final:
        history.observe(connection, now, study.study_uid)
    if held is not None:
        return []
    queued = start_runs(connection, now, study, decision, settings)
    return queued + (start_requests(connection, now, study, settings) if decision.final else [])
