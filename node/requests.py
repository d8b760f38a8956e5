"""Requests of readers: a region that was drawn and sent here is outlined by a promptable model.

The object is no image: no rule runs on it. Each request is a run of its own, over the series it refers to; images that
are not here are fetched where the configuration names an archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from pydicom import dcmread
from sqlalchemy import Connection, Row, select

from dicom_sr.marks import referenced_series
from node import assessments
from node.archive import archive_studies, index, ledger, patient_changes
from node.archive.headers import UNREADABLE
from node.archive.tables import jobs
from node.delivery import capabilities
from node.jobs import queue
from node.listed import ListedStudy
from node.ordering import Ordered, ordered
from node.prompted import asked_by
from node.runs import PRIORITIES, input_key, specification
from node.settings import PromptSection, Settings

PURPOSE = "prompt"


def start_requests(connection: Connection, now: float, study: Row[Any], settings: Settings) -> list[int]:
    """Queue a run for every request of a study that has none yet; return the jobs' numbers."""
    if not settings.prompt:
        return []
    study_uid, queued = study.study_uid, []
    judged = assessments.sources(connection, study_uid)
    rows = [row for row in index.instances_of_study(connection, study_uid) if row.sop_instance_uid not in judged]
    order = ordered(connection, study)
    for row in rows:
        prompt = asked_by(row, settings.prompt)
        if prompt is not None:
            job = _start(connection, now, study_uid, row, rows, prompt, settings, order)
            queued += [job] if job is not None else []
    return queued


def _start(
    connection: Connection,
    now: float,
    study_uid: str,
    request: Row[Any],
    rows: Sequence[Row[Any]],
    prompt: PromptSection,
    settings: Settings,
    order: Ordered,
) -> int | None:
    rule = prompt.as_rule(hashlib.sha256(request.sop_instance_uid.encode("ascii")).hexdigest()[:8])
    named = _named(settings, request)
    taken = [row for row in rows if row.series_uid in named and asked_by(row, settings.prompt) is None]
    missing = {uid for uids in named.values() for uid in uids} - {row.sop_instance_uid for row in taken}
    lacking = bool(missing) or not taken
    if lacking and prompt.archive is not None:
        row = archive_studies.see(connection, now, prompt.archive, ListedStudy(study_uid))
        urgency = int(PRIORITIES[prompt.priority])
        archive_studies.want(connection, now, row, purpose=PURPOSE, priority=urgency, method=prompt.method, again=False)
    key = input_key([request, *taken])
    earlier = connection.execute(
        select(jobs.c.id, jobs.c.input_key, jobs.c.run, jobs.c.state, jobs.c.superseded_at).where(
            jobs.c.study_uid == study_uid, jobs.c.rule == rule.name
        )
    ).all()
    if any(each.input_key == key and each.superseded_at is None for each in earlier):
        return None
    for each in earlier:
        # It waited for images that are here now.
        if each.state == queue.JobState.QUEUED:
            queue.cancel(connection, now, each.id)
    words = [f"a request: {len(named)} series named, {len(taken)} image(s) here, {len(missing)} missing"]
    ledger.record(
        connection, now, ledger.Kind.RULE_MATCHED, study_uid=study_uid, rule=rule.name, explanation=words, early=False
    )
    known = {name: capabilities.of(connection, name) for name in rule.destinations}
    content = specification(
        rule, taken, settings, order, None, known, corrected=patient_changes.of_images(connection, taken)
    )
    asked = {"path": request.path, "digest": request.digest, "follow": prompt.follow}
    return queue.enqueue(
        connection,
        now,
        study_uid=study_uid,
        rule=rule.name,
        model_id=rule.model,
        input_key=key,
        priority=PRIORITIES[rule.priority],
        maximum_attempts=settings.jobs.maximum_attempts,
        # Where no image is here, its own header says whose it is; the answer is then a status object.
        shadow=False,
        specification={**content, "files": content["files"] or [request.path], "request": asked, "trigger": "request"},
        run=1 + max((each.run for each in earlier), default=0),
        # Images may be on their way; where they do not come, the answer says so.
        not_before=now + prompt.patience_seconds if lacking else None,
    )


def _named(settings: Settings, request: Row[Any]) -> dict[str, set[str]]:
    """Series and images it says it is about; the object is small, and read once for each decision about its study."""
    path = settings.data_dir / "spool" / request.path
    try:
        return referenced_series(dcmread(path, stop_before_pixels=True))
    except (OSError, *UNREADABLE):
        return {}
