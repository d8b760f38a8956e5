"""The earlier study a result is compared with: found here, by patient, and only where nobody can doubt who that is.

Prior comparison needs the same Patient ID in the same domain, and demographics that agree. Where they do not, the
comparison is withheld and the result says so; a missing Patient ID finds nothing. Nothing is ever held for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection, Row, select, true

from dicom_sr.moment import latest
from models.results import NotCompared, Outcome
from node.archive.tables import deliveries, instances, jobs, objects, studies
from node.delivery.kept_headers import readable
from node.jobs.queue import JobKind, JobState, LeasedJob
from node.jobs.specification import Prior, StoredFile
from node.patients import PatientIdentity, contradiction
from node.settings import Settings

_MOMENT = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime")
MOMENTS = (*_MOMENT, "SeriesDate", "SeriesTime", "StudyDate", "StudyTime")
"""Attributes that tell when a study was acquired."""
_ASSESSED = frozenset({Outcome.FOUND.value, Outcome.NOTHING_FOUND.value})


def find(connection: Connection, job: LeasedJob, settings: Settings) -> Prior | None:
    """The latest earlier result of the job's model on another study of the patient; None where there is none.

    Returns
    -------
    Prior or None
        ``withheld`` says where there is one that must not be compared with.
    """
    if job.kind is not JobKind.RUN or not job.specification.get("compare_with_prior", False):
        return None
    current = identities(connection, job.study_uid)
    patient_ids = {each.patient_id.strip() for each in current} - {""}
    if len(patient_ids) != 1:
        return None
    moment = acquired(settings.data_dir / "spool" / job.specification["files"][0])
    run = _latest_before(connection, job, patient_ids.pop(), moment)
    if run is None:
        return None
    if doubtful(current | identities(connection, run.study_uid)) or _is_held(connection, run.study_uid):
        return Prior(study_uid=run.study_uid, withheld=NotCompared.IDENTITY_DOUBTFUL.value)
    return _prior(connection, run, settings, [n for names in job.specification["destinations"].values() for n in names])


def of_run(connection: Connection, run: Row[Any] | None, settings: Settings) -> Prior | None:
    """What the result of a finished run was compared with; None where it was with nothing, or that is gone."""
    comparison = ((run.result if run is not None else None) or {}).get("comparison")
    if not comparison or not comparison.get("prior_segmentation_uid"):
        return None
    uid = comparison["prior_segmentation_uid"]
    row = connection.execute(select(objects).where(objects.c.sop_instance_uid == uid)).one_or_none()
    if row is None or (path := readable(settings.data_dir / "outbox" / row.path)) is None:
        return None
    return Prior(study_uid=comparison["prior_study_uid"], segmentation=path)


def identities(connection: Connection, study_uid: str) -> set[PatientIdentity]:
    """Every patient identity the images of a study carry."""
    columns = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date")
    rows = connection.execute(
        select(*(instances.c[name] for name in columns))
        .where(instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours)
        .distinct()
    )
    return {PatientIdentity(*row) for row in rows}


def doubtful(found: set[PatientIdentity]) -> bool:
    """Whether these may be two patients.

    Stricter than what holds a study: beside a contradiction, other names (first component group) are doubt enough, and
    so is a Patient ID that nothing confirms, neither name nor birth date.
    """
    if contradiction(found) is not None:
        return True
    names = {each.name.split("=")[0].strip().rstrip("^ ").casefold() for each in found} - {""}
    birth_dates = {each.birth_date.strip() for each in found} - {""}
    return len(names) > 1 or not (names or birth_dates)


def _is_held(connection: Connection, study_uid: str) -> bool:
    held = select(studies.c.held_reason).where(studies.c.study_uid == study_uid)
    return connection.execute(held).scalar_one_or_none() is not None


def _latest_before(connection: Connection, job: LeasedJob, patient_id: str, moment: str) -> Row[Any] | None:
    """The latest result, by acquisition, before this study's."""
    others = select(instances.c.study_uid).where(
        instances.c.patient_id == patient_id, instances.c.active == true(), ~instances.c.ours
    )
    rows = connection.execute(
        select(jobs)
        .where(
            jobs.c.study_uid.in_(others.distinct()),
            jobs.c.study_uid != job.study_uid,
            jobs.c.model_id == job.model_id,
            jobs.c.kind == JobKind.RUN,
            jobs.c.state == JobState.DONE,
            jobs.c.superseded_at.is_(None),
            ~jobs.c.shadow,
        )
        .order_by(jobs.c.id)
    ).all()
    latest_of_study = {(row.study_uid, row.rule): row for row in rows}
    fitting = [
        row
        for row in latest_of_study.values()
        if (row.result or {}).get("outcome") in _ASSESSED and len(_moment_of(row)) > 0 and _moment_of(row) < moment
    ]
    return max(fitting, key=lambda row: (_moment_of(row), row.id), default=None)


def _moment_of(row: Row[Any]) -> str:
    return str((row.result or {}).get("acquired") or "")


def acquired(path: Path) -> str:
    """Acquisition date and time of a study, from one of its images; empty where that says nothing."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(MOMENTS), force=True)
        return latest([header]).date_time
    except (OSError, InvalidDicomError, AttributeError, ValueError, EOFError, NotImplementedError):
        return ""


def _prior(connection: Connection, run: Row[Any], settings: Settings, destinations: list[str]) -> Prior:
    gone = Prior(study_uid=run.study_uid, withheld=NotCompared.IMAGES_GONE.value)
    outbox = settings.data_dir / "outbox"
    stored = run.result.get("stored")
    if stored is None or not (path := outbox / stored["path"]).is_file():
        return gone
    segmentation = None
    if run.result["outcome"] == Outcome.FOUND.value:
        path_in_outbox = _segmentation(connection, run, destinations)
        segmentation = None if path_in_outbox is None else readable(outbox / path_in_outbox)
        if segmentation is None:
            return gone
    spool = settings.data_dir / "spool"
    files = [spool / each for each in run.specification["files"]]
    return Prior(
        study_uid=run.study_uid,
        study_date=run.result["acquired"][:8],
        stored=StoredFile.model_validate(stored).model_copy(update={"path": path}),
        segmentation=segmentation,
        files=files if all(each.is_file() for each in files) else [],
    )


def _segmentation(connection: Connection, run: Row[Any], destinations: list[str]) -> Path | None:
    """Path of the segmentation object that stands, relative to the outbox; one at the same destinations first."""
    family = select(jobs.c.id).where((jobs.c.id == run.id) | (jobs.c.parent_id == run.id))
    rows = connection.execute(
        select(objects.c.path, deliveries.c.destination)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(objects.c.job_id.in_(family), objects.c.role == "seg", deliveries.c.replaced_by.is_(None))
        .order_by(objects.c.job_id, objects.c.sop_instance_uid)
    ).all()
    chosen = [row.path for row in rows if row.destination in destinations] or [row.path for row in rows]
    return Path(chosen[0]) if chosen else None
