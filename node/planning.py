"""From what the index knows of a study to what is to be done: one short transaction for each study.

The decision, its evidence, the jobs it starts and the ledger rows are written together or not at all; so a process
killed at any line repeats the step from the same state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from node import arrival, correction, routing
from node.archive import copies, index, ledger
from node.archive.tables import associations, instances, jobs
from node.arrival import AssociationEnded, Corrected, Decision, InstanceStored, Instant, Phase, Released, State, Tick
from node.delivery import capabilities
from node.delivery.capabilities import Capabilities
from node.delivery.variants import variant
from node.jobs import queue
from node.patients import PatientIdentity, contradiction
from node.settings import ProfileSection, RuleSection, Settings

_PRIORITIES = {
    "stat": queue.Priority.STAT,
    "urgent": queue.Priority.URGENT,
    "routine": queue.Priority.ROUTINE,
    "off-peak": queue.Priority.OFF_PEAK,
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
    return arrival.due_in_seconds(State.from_dict(study.arrival.get("state", {})), at, settings.arrival)


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
    news = study.corrected_at != study.arrival.get("corrected_at")
    correcting = news or study.arrival.get("correcting", False)
    decisions = []
    for event in [*_events(connection, study, state, at), Tick(at)]:
        state, decision = arrival.step(state, event, settings.arrival)
        if decision is not None:
            decisions.append(decision)
    lifted, held = False, None
    # While a correction arrives, some images say one thing and some another: only at its end that is a contradiction.
    if decisions or not correcting:
        lifted = correcting and _lift(connection, now, study)
        held = None if study.held_reason is not None else _hold_if_contradictory(connection, now, study)
    queued: list[int] = []
    for decision in decisions[-1:]:
        why = held or (None if lifted else study.held_reason)
        queued = _decided(connection, now, study, decision, settings, held=why)
    due_in = arrival.due_in_seconds(state, at, settings.arrival)
    _store(connection, now, study, state, due_in, correcting=correcting and not decisions)
    outdated = len(correction.outdated_deliveries(connection, study_uid=study_uid)) if news else 0
    return Planned(due_in, tuple(queued), held, lifted, outdated)


def _events(connection: Connection, study: Row[Any], state: State, at: Instant) -> list[arrival.Event]:
    """What happened since the last step.

    Images are counted by association rather than by row number, because a transaction with a smaller number may become
    visible later (PostgreSQL).
    """
    events: list[arrival.Event] = []
    counted: dict[str, int] = study.arrival.get("counted", {})
    for association_id, count in _counts(connection, study.study_uid).items():
        if (more := count - counted.get(association_id, 0)) > 0:
            events.append(InstanceStored(at, association_id or None, more))
    known = state.open | {event.association_id for event in events if isinstance(event, InstanceStored)}
    ended = select(associations.c.id, associations.c.ending).where(
        associations.c.id.in_([each for each in known if each]), associations.c.closed_at.is_not(None)
    )
    for row in connection.execute(ended.order_by(associations.c.id)):
        events.append(AssociationEnded(at, row.id, row.ending == index.Ending.RELEASED))
    if study.released_at is not None and study.released_at != study.arrival.get("released_at"):
        events.append(Released(at))
    if study.corrected_at != study.arrival.get("corrected_at"):
        events.append(Corrected(at))
    return events


def _counts(connection: Connection, study_uid: str) -> dict[str, int]:
    """Images by association; those found on disk under the empty name."""
    rows = connection.execute(
        select(instances.c.association_id, func.count())
        .where(instances.c.study_uid == study_uid, ~instances.c.ours)
        .group_by(instances.c.association_id)
        .order_by(instances.c.association_id)
    )
    return {association_id or "": int(count) for association_id, count in rows}


def _store(
    connection: Connection, now: float, study: Row[Any], state: State, due_in: float | None, *, correcting: bool
) -> None:
    due_at = None if due_in is None else now + due_in
    index.record_evaluation(
        connection,
        now,
        study.study_uid,
        state=index.StudyState.COMPLETE if state.phase is Phase.COMPLETE else index.StudyState.WAITING,
        due_at=due_at,
        arrival={
            "state": state.to_dict(),
            "counted": _counts(connection, study.study_uid),
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
        )
        .where(instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours)
        .distinct()
    ).all()
    return contradiction(
        PatientIdentity(row.patient_id, row.issuer_of_patient_id, row.patient_name, row.patient_birth_date)
        for row in found
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
        queue.cancel(connection, now, job.id)
    return reason


def _decided(
    connection: Connection, now: float, study: Row[Any], decision: Decision, settings: Settings, *, held: str | None
) -> list[int]:
    ledger.record(
        connection,
        now,
        ledger.Kind.ARRIVAL_DECIDED,
        study_uid=study.study_uid,
        run=decision.run,
        reason=decision.reason,
        evidence=list(decision.evidence),
        instances=decision.instances,
        held=held,
    )
    if held is not None:
        return []
    current = index.instances_of_study(connection, study.study_uid)
    if not current:
        # Every image has moved to another study.
        return []
    facts = [
        routing.InstanceFacts(row.modality, row.calling_ae_title, row.called_ae_title, row.headers) for row in current
    ]
    queued = []
    for verdict in routing.match(settings.rule, facts):
        if verdict.matched:
            job_id = _queue(connection, now, study.study_uid, verdict, current, settings)
            queued += [job_id] if job_id is not None else []
        else:
            _skip(connection, now, study.study_uid, verdict.rule, list(verdict.explanation))
    return queued


def _skip(connection: Connection, now: float, study_uid: str, rule: RuleSection, why: list[str]) -> None:
    ledger.record(connection, now, ledger.Kind.RULE_SKIPPED, study_uid=study_uid, rule=rule.name, explanation=why)


def _queue(
    connection: Connection,
    now: float,
    study_uid: str,
    verdict: routing.RuleVerdict,
    current: Sequence[Row[Any]],
    settings: Settings,
) -> int | None:
    rule, key = verdict.rule, input_key(current)
    earlier = connection.execute(
        select(jobs.c.id, jobs.c.input_key, jobs.c.run, jobs.c.state, jobs.c.superseded_at).where(
            jobs.c.study_uid == study_uid, jobs.c.rule == rule.name, jobs.c.kind == queue.JobKind.RUN
        )
    ).all()
    # A superseded run has an answer to nobody, even where its images are back to what they were.
    standing = [job for job in earlier if job.state != queue.JobState.CANCELLED and job.superseded_at is None]
    if same := [job.id for job in standing if job.input_key == key]:
        _skip(connection, now, study_uid, rule, [f"job {same[0]} has taken exactly these images"])
        return None
    for job in standing:
        # What has not begun would only be superseded at once.
        if job.state == queue.JobState.QUEUED:
            queue.cancel(connection, now, job.id)
    ledger.record(
        connection,
        now,
        ledger.Kind.RULE_MATCHED,
        study_uid=study_uid,
        rule=rule.name,
        explanation=list(verdict.explanation),
    )
    return queue.enqueue(
        connection,
        now,
        study_uid=study_uid,
        rule=rule.name,
        model_id=rule.model,
        input_key=key,
        priority=_PRIORITIES[rule.priority],
        maximum_attempts=settings.jobs.maximum_attempts,
        specification=specification(
            rule, current, settings, {name: capabilities.of(connection, name) for name in rule.destinations}
        ),
        shadow=rule.shadow,
        run=1 + max((job.run for job in earlier), default=0),
    )


def input_key(current: Sequence[Row[Any]]) -> str:
    """Hex SHA-256 over the instances a job takes: SOP Instance UIDs and digests."""
    digest = hashlib.sha256()
    for uid, content in sorted((row.sop_instance_uid, row.digest) for row in current):
        digest.update(f"{uid} {content}\n".encode("ascii"))
    return digest.hexdigest()


def specification(
    rule: RuleSection,
    current: Sequence[Row[Any]],
    settings: Settings,
    known: Mapping[str, Capabilities] | None = None,
) -> dict[str, Any]:
    """What a job must remember of rule and configuration, so that a retry does what was decided, whatever they are then.

    Parameters
    ----------
    known : mapping or None
        What destinations are known to take: each gets the form of its profile that it takes.

    Returns
    -------
    dict
        ``files`` (relative to the spool), ``profiles`` (name → ProfileSection), ``destinations`` (profile → names),
        ``languages``, ``parameters``, ``report_model``, ``deadline_seconds``.
    """
    destinations: dict[str, list[str]] = {}
    profiles: dict[str, ProfileSection] = {}
    for name in rule.destinations:
        taken = (known or {}).get(name, Capabilities())
        profile, section = variant(settings.destination[name].profile, settings.profile_of(name), taken)
        destinations.setdefault(profile, []).append(name)
        profiles[profile] = section
    if not profiles:
        profiles = {"default": settings.profile.get("default", ProfileSection())}
    return {
        "files": [row.path for row in current],
        "profiles": {name: profile.model_dump(mode="json") for name, profile in profiles.items()},
        # A shadow run renders what would have left; nothing leaves.
        "destinations": {} if rule.shadow else destinations,
        "languages": [settings.node.language],
        "parameters": dict(rule.parameters),
        "report_model": rule.report_model,
        "compare_with_prior": rule.compare_with_prior,
        "deadline_seconds": rule.deadline_seconds or settings.jobs.deadline_seconds,
    }
