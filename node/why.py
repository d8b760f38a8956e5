"""The story of a study in readable lines: `ainode why`, and the console's story page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from node.archive.event_kinds import Kind
from node.archive.story import Fact, story
from node.errors import NotStored

_INDENT = " " * 25
Detail = Mapping[str, Any]


def tell(connection: Connection, reference: str) -> str:
    """Tell a story.

    Parameters
    ----------
    reference : str
        Accession number; Study, Series or SOP Instance UID, received or made here; or a job's number.

    Returns
    -------
    str
        One paragraph an event, in order of time, local time first. Empty where nothing is known. Studies that share an
        accession number are told one after the other.
    """
    try:
        facts = story(connection, reference)
    except NotStored:
        return ""
    told = list(dict.fromkeys(fact.study_uid for fact in facts if fact.study_uid is not None))
    if len(told) > 1:
        return "\n\n".join(f"study {study_uid}\n{tell(connection, study_uid)}" for study_uid in told)
    return "\n".join(line for fact in readable(facts) for line in lines_of(fact))


def readable(facts: list[Fact]) -> list[Fact]:
    """Facts of one study as they are told: objects by their role, and what only repeats left out."""
    roles = {fact.sop_instance_uid: fact.detail.get("role") for fact in facts if fact.kind == Kind.OBJECT_FROZEN}
    return _without_repetitions(
        [replace(fact, detail={"role": roles.get(fact.sop_instance_uid), **fact.detail}) for fact in facts]
    )


def _without_repetitions(facts: list[Fact]) -> list[Fact]:
    """Leave out what only says again that a destination could not be reached, as all night long.

    Of a delivery's attempts that failed one after the other with the same words, the first and the last stay.
    """
    left_out: set[int] = set()
    told: dict[int, str] = {}
    for attempts in _failed_alike(facts):
        for middle in attempts[1:-1]:
            left_out.update(middle)
        if len(attempts) > 2:
            told[attempts[-1][-1]] = f"{len(attempts)} attempts in a row failed like this"
    return [
        replace(fact, detail={**fact.detail, "attempts": told[number]}) if number in told else fact
        for number, fact in enumerate(facts)
        if number not in left_out
    ]


def _failed_alike(facts: list[Fact]) -> list[list[list[int]]]:
    """Runs of failed attempts of one delivery with the same words: for each attempt the numbers of its facts."""
    runs: dict[tuple[Any, ...], list[list[list[int]]]] = {}
    sending: dict[tuple[Any, ...], list[int]] = {}
    words: dict[tuple[Any, ...], Any] = {}
    for number, fact in enumerate(facts):
        delivery = (fact.sop_instance_uid, fact.detail.get("destination"))
        if fact.kind == Kind.DELIVERY_SENDING:
            sending[delivery] = [number]
        elif fact.kind == Kind.DELIVERY_FAILED:
            attempt = [*sending.pop(delivery, []), number]
            if words.get(delivery) == fact.detail.get("message") and delivery in runs:
                runs[delivery][-1].append(attempt)
            else:
                runs.setdefault(delivery, []).append([attempt])
            words[delivery] = fact.detail.get("message")
        else:
            words.pop(delivery, None)
    return [run for of_delivery in runs.values() for run in of_delivery]


def lines_of(fact: Fact) -> list[str]:
    """One event: a line with the time, and further ones for its evidence, indented."""
    head, *rest = words_of(fact)
    return [f"{_moment(fact.at)}  {head}", *(f"{_INDENT}{line}" for line in rest)]


def words_of(fact: Fact) -> list[str]:
    """One event: what happened, then its evidence, a line each."""
    words = _WORDS.get(Kind(fact.kind)) if fact.kind in set(Kind) else None
    return words(fact) if words else [fact.kind, *_facts(fact.detail)]


def _moment(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}"


def _facts(detail: Detail, *left_out: str) -> list[str]:
    """What has no words of its own, one line a fact; lists are cut after five."""
    lines = []
    for key, value in detail.items():
        if key in left_out or value in (None, "", [], {}):
            continue
        if isinstance(value, list) and len(value) > 5:
            value = f"{', '.join(map(str, value[:5]))} and {len(value) - 5} more"
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        lines.append(f"{key}: {value}")
    return lines


def _corrected(fact: Fact) -> list[str]:
    origin = fact.detail.get("calling_ae_title") or "disk"
    changed = ", ".join(fact.detail.get("changed", [])) or "?"
    return [
        f"CORRECTION: {fact.count} image(s) received again from {origin} with other {changed}",
        "the earlier copies are kept and count no more",
    ]


def _moved(fact: Fact) -> list[str]:
    return [f"CORRECTION: {fact.count} image(s) moved to study {fact.detail.get('to_study', '?')}"]


def _released(fact: Fact) -> list[str]:
    left_out = fact.detail.get("left_out")
    rest = [f"{left_out} image(s) that no correction has reached are left out"] if left_out else []
    if fact.detail.get("by") == "correction":
        return ["study released: a correction removed the reason", *rest]
    return ["study released by an operator", *rest]


def _outdated(fact: Fact) -> list[str]:
    sure = "has" if fact.detail.get("state") in ("stored", "committed") else "may have"
    what = f"{fact.detail.get('role') or 'object'} {fact.sop_instance_uid}"
    return [
        f"OLD IDENTITY: {fact.detail.get('destination', '?')} {sure} {what}",
        "remove or move it there, then `ainode corrections --settle STUDY`",
    ]


def _received(fact: Fact) -> list[str]:
    size = f", {fact.detail['size']} bytes" if fact.count == 1 and "size" in fact.detail else ""
    spread = fact.until - fact.at
    ours = " made by this node: filed, nothing runs on it" if fact.detail.get("ours") else ""
    origin = fact.detail.get("calling_ae_title") or "disk"
    mover = fact.detail.get("move_originator")
    origin += f", moved for {mover}" if mover else ""
    took = f" within {spread:.1f} s" if fact.count > 1 else ""
    verb = {Kind.INSTANCE_DUPLICATE: " again, with the same bytes", Kind.INSTANCE_CONFLICT: " again, with OTHER bytes"}
    return [f"{fact.count} image(s) received from {origin}{took}{size}{verb.get(Kind(fact.kind), '')}{ours}"]


def _derived(fact: Fact) -> list[str]:
    origin = fact.detail.get("calling_ae_title") or "disk"
    return [f"object received from {origin} that somebody made from one of this node: kept as such, no input of a run"]


def _association(fact: Fact) -> list[str]:
    detail = fact.detail
    who = f"{detail.get('calling_ae_title', '?')} at {detail.get('address', '?')}"
    if fact.kind == Kind.ASSOCIATION_OPENED:
        return [f"association opened by {who} to {detail.get('called_ae_title', '?')}"]
    return [f"association of {who} ended: {detail.get('ending')}, {detail.get('instances', 0)} image(s)"]


def _decided(fact: Fact) -> list[str]:
    held = [f"nothing runs, the study is held: {fact.detail['held']}"] if fact.detail.get("held") else []
    return [f"study complete (run {fact.detail.get('run')})", *fact.detail.get("evidence", []), *held]


def _provisional(fact: Fact) -> list[str]:
    held = [f"nothing runs, the study is held: {fact.detail['held']}"] if fact.detail.get("held") else []
    return [f"{fact.detail.get('series')} series complete, the study is not", *fact.detail.get("evidence", []), *held]


def _evidence(fact: Fact) -> list[str]:
    detail = fact.detail
    status = f" {detail['status']}" if detail.get("status") else ""
    named = f": {detail.get('instances')} instance(s) in {detail.get('series')} series" if detail.get("series") else ""
    return [f"{detail.get('source', '?')}{status} from {detail.get('calling_ae_title') or '?'}{named}"]


def _order(fact: Fact) -> list[str]:
    detail = fact.detail
    station = f" at {detail['station']}" if detail.get("station") else ""
    priority = f", {detail['priority']}" if detail.get("priority") else ""
    return [
        f"order on worklist {detail.get('worklist', '?')}: {detail.get('modality') or '?'}{station}{priority}",
        *_facts({"procedures": detail.get("procedures")}),
    ]


def _priors(fact: Fact) -> list[str]:
    detail = fact.detail
    if not detail.get("studies"):
        return ["no earlier study matters"]
    failed = f", {detail['failed']} FAILED" if detail.get("failed") else ""
    head = f"{len(detail['studies'])} earlier study(ies) fetched: {detail.get('instances')} instance(s){failed}"
    return [head, *detail["studies"], *detail.get("problems", [])]


def _patient(fact: Fact) -> list[str]:
    detail = fact.detail
    changed = ", ".join(detail.get("changed", [])) or "?"
    return [
        f"CORRECTION: {detail.get('sender', '?')} says by {detail.get('event', '?')} that {changed} are other ones",
        "what was made before does not leave any more; results carry the identity that holds now",
    ]


def _signed(fact: Fact) -> list[str]:
    return [f"report signed at {_moment(fact.detail.get('signed_at', 0.0))}, says {fact.detail.get('sender', '?')}"]


def _late(fact: Fact) -> list[str]:
    detail = fact.detail
    minutes = float(detail.get("late_seconds") or 0.0) / 60.0
    sent = "sent, and says so" if detail.get("marked") else "sent"
    became = "withheld" if detail.get("policy") == "withhold" else sent
    return [f"job {fact.job_id}: LATE, {minutes:.1f} min after the report was signed: {became}"]


def _reconciled(fact: Fact) -> list[str]:
    detail = fact.detail
    if not detail.get("finding"):
        return [f"held against {detail.get('archive', '?')}: nothing is wrong any more, {detail.get('words')}"]
    return [f"held against {detail.get('archive', '?')}: {detail['finding'].upper()}", str(detail.get("words"))]


def _fetched(fact: Fact) -> list[str]:
    detail = fact.detail
    failed = f", {detail['failed']} FAILED" if detail.get("failed") else ""
    head = f"fetched from {detail.get('archive', '?')} for {detail.get('purpose')} by {detail.get('method')}"
    return [f"{head}: {detail.get('completed')} image(s){failed}", *_facts({"message": detail.get("message")})]


def _rule(fact: Fact) -> list[str]:
    early = " early, on what is complete" if fact.detail.get("early") else ""
    verb = f"matched{early}" if fact.kind == Kind.RULE_MATCHED else "did not fire"
    return [f"rule {fact.detail.get('rule')} {verb}", *fact.detail.get("explanation", [])]


def _job(template: str, *shown: str) -> Callable[[Fact], list[str]]:
    """Words for an event of a job; facts that the template does not name follow indented."""

    def words(fact: Fact) -> list[str]:
        detail = {"job": fact.job_id, **fact.detail}
        text = template.format_map(_Lenient(detail))
        return [text, *_facts(fact.detail, *shown, "owner", "role")]

    return words


def _workitem(what: str) -> Callable[[Fact], list[str]]:
    """Words for what became of a workitem."""
    return lambda fact: [("workitem of {manager} ({code}) " + what).format_map(_Lenient(fact.detail))]


class _Lenient(dict[str, Any]):
    """A missing fact is shown as a question mark: an old row may lack what is recorded today."""

    def __missing__(self, key: str) -> str:
        return "?"


def _finished(fact: Fact) -> list[str]:
    steps = (fact.detail.get("timings") or {}).items()
    took = [", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps)] if steps else []
    return [
        f"job {fact.job_id} finished: {fact.detail.get('outcome')}",
        *took,
        *_finder(fact.detail.get("finder") or {}),
    ]


def _finder(facts: dict[str, Any]) -> list[str]:
    """Which of several models has found, and why not another; nothing where there was no choice."""
    passed_over = facts.get("passed_over") or {}
    lines = [f"found by {facts.get('taken')}"] if passed_over else []
    return lines + [f"passed over: {name}, {why}" for name, why in passed_over.items()]


def _refused(fact: Fact) -> list[str]:
    detail = fact.detail
    return [
        f"job {fact.job_id}: not assessed, {detail.get('code')}: {detail.get('message')}",
        *_facts(detail.get("detail") or {}, "code", "message"),
    ]


def _replaced(fact: Fact) -> list[str]:
    detail = fact.detail
    there = "; it is there, or may be" if detail.get("reached") else "; it never went there"
    what = f"{detail.get('role') or 'object'} {fact.sop_instance_uid}"
    return [f"replaced by job {detail.get('by')} at {detail.get('destination', '?')}: {what}{there}"]


def _checked(fact: Fact) -> list[str]:
    detail = fact.detail
    if detail.get("passed"):
        made = f"{detail.get('objects')} object(s), {detail.get('parts')} parts"
        empty = [f"empty, as in the images: {', '.join(detail['left_empty'])}"] if detail.get("left_empty") else []
        return [f"job {fact.job_id}: objects for profile {detail.get('profile')} passed their check ({made})", *empty]
    problems = detail.get("problems") or []
    return [f"job {fact.job_id}: objects for profile {detail.get('profile')} FAILED their check", *problems[:5]]


def _delivery(words: str) -> Callable[[Fact], list[str]]:
    def lines(fact: Fact) -> list[str]:
        detail = fact.detail
        status = f", status 0x{detail['status']:04X}" if isinstance(detail.get("status"), int) else ""
        what = f"{detail.get('role') or 'object'} {fact.sop_instance_uid}"
        rest = _facts(detail, "role", "destination", "status", "delivery", "attempt")
        return [f"{words} {detail.get('destination', '?')}: {what}{status}", *rest]

    return lines


def _frozen(fact: Fact) -> list[str]:
    detail = fact.detail
    return [
        f"object frozen: {detail.get('role')} for profile {detail.get('profile')}, {detail.get('size')} bytes",
        f"{fact.sop_instance_uid}",
    ]


def _alert(words: str) -> Callable[[Fact], list[str]]:
    def tell_it(fact: Fact) -> list[str]:
        detail = fact.detail
        return [f"alert {detail.get('alert')} ({detail.get('notify')}) {words}", *_facts(detail, "alert", "notify")]

    return tell_it


def _notification(words: str) -> Callable[[Fact], list[str]]:
    def tell_it(fact: Fact) -> list[str]:
        detail = fact.detail
        head = f"{words} {detail.get('channel')}: {detail.get('event')}, notification {detail.get('notification')}"
        return [head, *_facts(detail, "channel", "event", "notification", "alert", "control_id")]

    return tell_it


def _person(fact: Fact) -> list[str]:
    detail = fact.detail
    who = f"{detail.get('by')} ({detail.get('role') or detail.get('via')})"
    return [f"{who} asked for: {detail.get('action')}", *_facts(detail, *_ACTOR, "action")]


_ACTOR = ("by", "role", "via", "address")

_WORDS: dict[Kind, Callable[[Fact], list[str]]] = {
    Kind.INSTANCE_RECEIVED: _received,
    Kind.INSTANCE_DUPLICATE: _received,
    Kind.INSTANCE_CONFLICT: _received,
    Kind.INSTANCE_CORRECTED: _corrected,
    Kind.INSTANCE_MOVED: _moved,
    Kind.ASSOCIATION_OPENED: _association,
    Kind.ASSOCIATION_CLOSED: _association,
    Kind.ARRIVAL_DECIDED: _decided,
    Kind.ARRIVAL_PROVISIONAL: _provisional,
    Kind.EVIDENCE_RECEIVED: _evidence,
    Kind.ORDER_RECEIVED: _order,
    Kind.ORDER_CANCELLED: lambda fact: [f"order taken back by {fact.detail.get('worklist', '?')}"],
    Kind.IMAGES_REMOVED: lambda fact: [
        f"{fact.detail.get('instances')} image(s) removed by retention"
        + (
            f"; {fact.detail['archive']} lists all of them"
            if fact.detail.get("listed")
            else "; no archive lists them all"
        )
    ],
    Kind.WORKITEM_CLAIMED: _workitem("claimed"),
    Kind.WORKITEM_LOST: _workitem("lost: {reason}"),
    Kind.WORKITEM_CANCEL_ASKED: _workitem("is to be cancelled, says {asked_by}; {stopped} runs were stopped"),
    Kind.WORKITEM_COMPLETED: _workitem("COMPLETED"),
    Kind.WORKITEM_CANCELED: _workitem("CANCELED: {words}"),
    Kind.PRIORS_FETCHED: _priors,
    Kind.PATIENT_CHANGED: _patient,
    Kind.REPORT_SIGNED: _signed,
    Kind.RESULT_LATE: _late,
    Kind.RECONCILED: _reconciled,
    Kind.STUDY_SEEN: lambda fact: [
        f"seen at {fact.detail.get('archive')}: {fact.detail.get('instances')} image(s) in "
        f"{fact.detail.get('series')} series; it sends none, so they are fetched"
    ],
    Kind.STUDY_FETCHED: _fetched,
    Kind.STUDY_HELD: lambda fact: [f"STUDY HELD: {fact.detail.get('reason')}"],
    Kind.STUDY_RELEASED: _released,
    Kind.RULE_MATCHED: _rule,
    Kind.RULE_SKIPPED: _rule,
    Kind.JOB_QUEUED: _job(
        "job {job} queued: {model} for rule {rule}, {priority}, run {run}",
        *("model", "rule", "priority", "run", "shadow", "provisional"),
    ),
    Kind.JOB_STARTED: _job("job {job} started, attempt {attempt}", "attempt"),
    Kind.JOB_FINISHED: _finished,
    Kind.JOB_REFUSED: _refused,
    Kind.JOB_FAILED: _job("job {job} FAILED in attempt {attempt}: {code}: {message}", "attempt", "code", "message"),
    Kind.REMOTE_ANSWERED: _job("job {job}: {model} answered at endpoint {endpoint}", "model", "endpoint"),
    Kind.REMOTE_REFUSED: _job(
        "job {job}: NOT ASKED at endpoint {endpoint}: {code}: {message}", "endpoint", "code", "message"
    ),
    Kind.TEXT_OBJECTED: _job("job {job}: generated text is WRONG ({language})", "language"),
    Kind.JOB_DEAD: _job("job {job} is DEAD after {attempts} attempt(s)", "attempts", "code", "message"),
    Kind.JOB_EXPIRED: _job("job {job}: whoever ran attempt {attempt} is gone; the job is given back", "attempt"),
    Kind.JOB_CANCELLED: _job("job {job} cancelled"),
    Kind.JOB_RETRIED: _job("job {job} queued again by an operator"),
    Kind.JOB_CONFIRMED: _job("job {job}, run {run}, has taken the complete study: it is provisional no more", "run"),
    Kind.JOB_SUPERSEDED: _job(
        "job {job}, run {run}, was {state}: superseded by a correction, nothing of it leaves any more",
        "state",
        "run",
        "changed",
    ),
    Kind.OBJECT_FROZEN: _frozen,
    Kind.DELIVERY_SENDING: _delivery("sending to"),
    Kind.DELIVERY_STORED: _delivery("stored by"),
    Kind.DELIVERY_RETURNED: _delivery("waits again for"),
    Kind.DELIVERY_FOUND: _delivery("no answer had come, and it was found at"),
    Kind.DELIVERY_VERIFIED: _delivery("verified by query at"),
    Kind.DELIVERY_UNVERIFIABLE: _delivery("stored, UNVERIFIABLE at"),
    Kind.DELIVERY_DISCARDED: _delivery("discarded after a pause, never to be sent to"),
    Kind.OBJECT_REMOVED: lambda fact: [f"local copy of {fact.detail.get('role')} removed: every destination has it"],
    Kind.INSTANCE_DERIVED: _derived,
    Kind.DELIVERY_FAILED: _delivery("NOT stored by"),
    Kind.DELIVERY_UNKNOWN: _delivery("no answer from"),
    Kind.DELIVERY_DEAD: _delivery("given up on"),
    Kind.DELIVERY_REPLAYED: _delivery("queued again for"),
    Kind.DELIVERY_WITHDRAWN: _delivery("withdrawn, never to be sent to"),
    Kind.DELIVERY_OUTDATED: _outdated,
    Kind.DELIVERY_REPLACED: _replaced,
    Kind.RESULT_ASSESSED: lambda fact: [
        f"a reader has {fact.detail.get('assessment')} {fact.detail.get('role') or 'object'} {fact.sop_instance_uid}; "
        "it is not sent again",
        *_facts(fact.detail, "assessment", "role"),
    ],
    Kind.OBJECT_CHECKED: _checked,
    Kind.DESTINATION_REFUSED: lambda fact: [
        f"{fact.detail.get('destination')} takes no {', '.join(fact.detail.get('refused', []))}"
    ],
    Kind.DELIVERY_SETTLED: _delivery("old identity settled at"),
    Kind.NOTIFY_SKIPPED: lambda fact: [
        f"notify rule {fact.detail.get('notify')} does not hold",
        *fact.detail.get("explanation", []),
    ],
    Kind.ALERT_OPENED: _alert("opened"),
    Kind.ALERT_UPDATED: _alert("has other figures"),
    Kind.ALERT_RETRACTED: _alert("RETRACTED: a later run has not confirmed it"),
    Kind.ALERT_ESCALATED: _alert("not acknowledged, the next are called"),
    Kind.ALERT_ACKNOWLEDGED: _alert("acknowledged"),
    Kind.ALERT_UNHEARD: _alert("NOBODY HAS ACKNOWLEDGED, and nobody else is left to tell"),
    Kind.NOTIFICATION_SENDING: _notification("telling"),
    Kind.NOTIFICATION_DELIVERED: _notification("told"),
    Kind.NOTIFICATION_FAILED: _notification("NOT told"),
    Kind.NOTIFICATION_UNKNOWN: _notification("no answer from"),
    Kind.NOTIFICATION_DEAD: _notification("given up on telling"),
    Kind.NOTIFICATION_REPLAYED: _notification("queued again for"),
    Kind.NOTIFICATION_WITHDRAWN: _notification("withdrawn, never to be told to"),
    Kind.PERSON_ACTED: _person,
    Kind.COMMITMENT_REQUESTED: _delivery("commitment requested from"),
    Kind.COMMITMENT_ANSWERED: _delivery("commitment answered by"),
    Kind.COMMITMENT_EXPIRED: _delivery("no commitment answer from"),
}
