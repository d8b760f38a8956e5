"""From a decision of arrival to runs: which rules fire, on which images, and what becomes of earlier runs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select, update

from node import assessments, routing
from node.archive import archive_studies, canary_runs, image_retention, index, ledger, patient_changes
from node.archive.tables import jobs
from node.arrival import Decision
from node.delivery import capabilities
from node.delivery.capabilities import Capabilities
from node.delivery.variants import variant
from node.jobs import queue
from node.notify.conditions import concerns
from node.ordering import Ordered, ordered
from node.orders import Order, most_urgent
from node.prompted import asked_by
from node.settings import ProfileSection, RuleSection, Settings

PRIORITIES = {
    "stat": queue.Priority.STAT,
    "urgent": queue.Priority.URGENT,
    "routine": queue.Priority.ROUTINE,
    "off-peak": queue.Priority.OFF_PEAK,
}
_ORDERED_PRIORITIES = {"STAT": queue.Priority.STAT, "HIGH": queue.Priority.URGENT}


def start_runs(
    connection: Connection, now: float, study: Row[Any], decision: Decision, settings: Settings
) -> list[int]:
    """Hold the rules against a study, queue what follows, and return the jobs' numbers.

    A provisional decision asks only the rules that may run early, once each; the final one asks all of them, and where
    an early run took other images than these it is superseded.
    """
    judged = assessments.sources(connection, study.study_uid)
    current = [
        row for row in index.instances_of_study(connection, study.study_uid) if row.sop_instance_uid not in judged
    ]
    if not decision.final:
        current = [row for row in current if row.series_uid in decision.series]
    if not current:
        # Every image has moved to another study.
        return []
    order = ordered(connection, study)
    # What a reader has drawn is a request, and no image.
    current = [row for row in current if asked_by(row, settings.prompt) is None]
    circumstances = routing.Circumstances(study.study_uid, order.orders, minute_of_day(now))
    own = canary_runs.rules_for(connection, study.study_uid, settings.rule)
    rules = [rule for rule in own if decision.final or rule.early]
    queued = []
    for verdict in routing.match(rules, [facts_of(row) for row in current], circumstances):
        taken = [row for row in current if verdict.series is None or row.series_uid in verdict.series]
        if not verdict.matched:
            if decision.final:
                _skip(connection, now, study.study_uid, verdict.rule, list(verdict.explanation))
            continue
        job_id = _queue(connection, now, study.study_uid, verdict, taken, settings, decision, order)
        queued += [job_id] if job_id is not None else []
    return queued


def facts_of(row: Row[Any]) -> routing.InstanceFacts:
    """What routing sees of a row of the index."""
    return routing.InstanceFacts(row.modality, row.calling_ae_title, row.called_ae_title, row.headers, row.series_uid)


def minute_of_day(now: float) -> int:
    """Of the site's wall clock."""
    local = time.localtime(now)
    return local.tm_hour * 60 + local.tm_min


def _skip(connection: Connection, now: float, study_uid: str, rule: RuleSection, why: list[str]) -> None:
    ledger.record(connection, now, ledger.Kind.RULE_SKIPPED, study_uid=study_uid, rule=rule.name, explanation=why)


def _queue(
    connection: Connection,
    now: float,
    study_uid: str,
    verdict: routing.RuleVerdict,
    taken: Sequence[Row[Any]],
    settings: Settings,
    decision: Decision,
    order: Ordered,
) -> int | None:
    rule, key = verdict.rule, input_key(taken)
    earlier = connection.execute(
        select(jobs).where(jobs.c.study_uid == study_uid, jobs.c.rule == rule.name, jobs.c.kind == queue.JobKind.RUN)
    ).all()
    # A superseded run has an answer to nobody, even where its images are back to what they were.
    standing = [job for job in earlier if job.state != queue.JobState.CANCELLED and job.superseded_at is None]
    if same := [job for job in standing if job.input_key == key]:
        if decision.final:
            _confirmed(connection, now, study_uid, rule, same[0])
        return None
    if standing and not decision.final:
        # Once is enough: what comes now is for the final run.
        return None
    if lost := _lost_images(connection, study_uid, standing, taken):
        # A result of the whole study must not give way to one of what came back of it.
        _skip(connection, now, study_uid, rule, [lost])
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
        early=not decision.final,
    )
    return queue.enqueue(
        connection,
        now,
        study_uid=study_uid,
        rule=rule.name,
        model_id=rule.model,
        input_key=key,
        priority=_urgency(connection, study_uid, rule, order.orders),
        maximum_attempts=settings.jobs.maximum_attempts,
        specification=specification(
            rule,
            taken,
            settings,
            order,
            decision,
            {name: capabilities.of(connection, name) for name in rule.destinations},
            corrected=patient_changes.of_images(connection, taken),
        ),
        shadow=rule.shadow,
        run=1 + max((job.run for job in earlier), default=0),
        provisional=not decision.final,
    )


def _lost_images(
    connection: Connection, study_uid: str, standing: Sequence[Any], taken: Sequence[Row[Any]]
) -> str | None:
    """Say which images of a standing result are missing here because retention has removed them; None where none are."""
    here = {row.path for row in taken}
    for job in standing:
        missing = set(job.specification.get("files", ())) - here
        if missing and image_retention.removed_since(connection, study_uid, job.created_at):
            return (
                f"{len(missing)} image(s) that job {job.id} took were removed by retention and did not come back; "
                "its result stands"
            )
    return None


def _confirmed(connection: Connection, now: float, study_uid: str, rule: RuleSection, job: Any) -> None:
    """The complete study is what a run has taken already: it stands, and is provisional no more."""
    _skip(connection, now, study_uid, rule, [f"job {job.id} has taken exactly these images"])
    if job.provisional:
        connection.execute(update(jobs).where(jobs.c.id == job.id).values(provisional=False))
        ledger.record(connection, now, ledger.Kind.JOB_CONFIRMED, study_uid=study_uid, job_id=job.id, run=job.run)


def priority_of(rule: RuleSection, orders: Sequence[Order]) -> queue.Priority:
    """The rule's priority, or that of the order where it is more urgent."""
    asked = _ORDERED_PRIORITIES.get(most_urgent(orders), queue.Priority.OFF_PEAK)
    return min(PRIORITIES[rule.priority], asked)


def _urgency(connection: Connection, study_uid: str, rule: RuleSection, orders: Sequence[Order]) -> queue.Priority:
    """Of what is fetched from the past nobody waits for the answer, unless an order says otherwise."""
    if archive_studies.is_backfilled(connection, study_uid) and not most_urgent(orders):
        return queue.Priority.OFF_PEAK
    return priority_of(rule, orders)


def input_key(taken: Sequence[Row[Any]]) -> str:
    """Hex SHA-256 over the instances a job takes: SOP Instance UIDs and digests."""
    digest = hashlib.sha256()
    for uid, content in sorted((row.sop_instance_uid, row.digest) for row in taken):
        digest.update(f"{uid} {content}\n".encode("ascii"))
    return digest.hexdigest()


def specification(
    rule: RuleSection,
    taken: Sequence[Row[Any]],
    settings: Settings,
    order: Ordered = Ordered(),
    decision: Decision | None = None,
    known: Mapping[str, Capabilities] | None = None,
    corrected: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a job must remember of rule and configuration, so that a retry does what was decided, whatever they are then.

    Parameters
    ----------
    known : mapping or None
        What destinations are known to take: each gets the form of its profile that it takes.
    corrected : mapping or None
        Attributes of the patient, by keyword, that hold instead of those in the images.

    Returns
    -------
    dict
        ``files`` (relative to the spool), ``profiles`` (name → ProfileSection), ``destinations`` (profile → names),
        ``further`` (notify rule → profile → names: only where its rule holds for the result),
        ``languages``, ``parameters``, ``report_model``, ``contradictions``,
        ``question``, ``deadline_seconds``, ``deadline_by`` (``rule``, or ``node``: then a card's goes first),
        ``procedures`` (of the order, where it
        agrees with the images), ``corrected`` (attributes of the patient that hold instead of the images'),
        ``limitations`` (keys of sentences), ``trigger`` (reason of the decision).
    """
    destinations: dict[str, list[str]] = {}
    profiles: dict[str, ProfileSection] = {}
    for name in rule.destinations:
        takes = (known or {}).get(name, Capabilities())
        profile, section = variant(settings.destination[name].profile, settings.profile_of(name), takes)
        destinations.setdefault(profile, []).append(name)
        profiles[profile] = section
    further = {} if rule.shadow else _further_destinations(rule, settings)
    # A set is rendered for whoever may get it: which result sends it there is known when the model has run.
    for each in further.values():
        for profile, names in each.items():
            profiles.setdefault(profile, settings.profile_of(names[0]))
    if not profiles:
        profiles = {"default": settings.profile.get("default", ProfileSection())}
    missing = decision is not None and decision.reason in ("missing", "step_unfinished")
    said = {"order_mismatch": order.mismatch, "images_incomplete": missing, "identity_corrected": bool(corrected)}
    return {
        "files": [row.path for row in taken],
        "profiles": {name: profile.model_dump(mode="json") for name, profile in profiles.items()},
        # A shadow run renders what would have left; nothing leaves.
        "destinations": {} if rule.shadow else destinations,
        "further": further,
        "languages": [settings.node.language],
        "parameters": dict(rule.parameters),
        "report_model": rule.report_model,
        "contradictions": rule.contradictions,
        "question": rule.question,
        "compare_with_prior": rule.compare_with_prior,
        "deadline_seconds": rule.deadline_seconds or settings.jobs.deadline_seconds,
        "deadline_by": "rule" if rule.deadline_seconds else "node",
        "procedures": [_procedure(each) for each in order.orders],
        "limitations": [key for key, holds in said.items() if holds],
        "corrected": dict(corrected or {}),
        "trigger": decision.reason if decision is not None else "",
    }


def _further_destinations(rule: RuleSection, settings: Settings) -> dict[str, dict[str, list[str]]]:
    """Destinations that notify rules add for results of a rule."""
    found: dict[str, dict[str, list[str]]] = {}
    for notify in settings.notify:
        for name in notify.destinations if concerns(notify, rule.name) else ():
            profile = settings.destination[name].profile
            found.setdefault(notify.name, {}).setdefault(profile, []).append(name)
    return found


def _procedure(order: Order) -> dict[str, Any]:
    """What :class:`dicom_sr.requested.RequestedProcedure` takes."""

    def codes(given: Sequence[Any]) -> list[dict[str, str]]:
        return [{"value": code.value, "scheme": code.scheme, "meaning": code.meaning} for code in given]

    return {
        "accession_number": order.accession_number,
        "requested_procedure_id": order.requested_procedure_id,
        "requested_procedure_description": order.requested_procedure_description,
        "codes": codes(order.procedure_codes),
        "reason": order.reason,
        "step_id": order.step_id,
        "step_description": order.step_description,
        "protocol_codes": codes(order.protocol_codes),
        "placer_order_number": order.placer_order_number,
        "filler_order_number": order.filler_order_number,
    }
