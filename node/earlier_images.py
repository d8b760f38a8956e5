"""The radiograph a model looks at beside the current one: the patient's latest earlier study that is here.

It lies in the spool, or among what was fetched from the archive because an order announced the patient. Only a study whose
images name the same patient beyond doubt, and were taken before, is given; where there is none nothing is held for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection, select, true

from dicom_sr.moment import latest
from node import priors
from node.archive import priors as fetched
from node.archive.tables import instances
from node.jobs.queue import JobKind, LeasedJob
from node.jobs.specification import EarlierImages
from node.patients import PatientIdentity
from node.settings import Settings

_MODALITIES = ("CR", "DX")
_MOST_STUDIES = 50
_MOST_FILES = 20
_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")


@dataclass(frozen=True, slots=True)
class _Candidate:
    study_uid: str
    files: tuple[tuple[Path, str], ...]
    """Paths and digests."""


def find(connection: Connection, job: LeasedJob, settings: Settings) -> EarlierImages | None:
    """The latest earlier radiographs of the patient a job's study is of; None where there are none, or nobody is sure.

    Only a rule with ``compare_with_prior``, and a study that is of radiographs itself, asks.
    """
    if job.kind is not JobKind.RUN or not job.specification.get("compare_with_prior", False):
        return None
    current = priors.identities(connection, job.study_uid)
    patient_ids = {each.patient_id.strip() for each in current} - {""}
    if len(patient_ids) != 1 or not _is_radiographic(connection, job.study_uid):
        return None
    acquired = priors.acquired(settings.data_dir / "spool" / job.specification["files"][0])
    found = []
    for candidate in _candidates(connection, patient_ids.pop(), job.study_uid, settings):
        header = _header(candidate.files[0][0])
        moment = latest([header]).date_time if header is not None else ""
        if header is None or not moment or moment >= acquired:
            continue
        if not priors.doubtful(current | {_identity(header)}):
            found.append((moment, candidate))
    if not found:
        return None
    moment, chosen = max(found, key=lambda each: (each[0], each[1].study_uid))
    return EarlierImages(
        study_uid=chosen.study_uid,
        study_date=moment[:8],
        files=[path for path, _ in chosen.files],
        digests=sorted(digest for _, digest in chosen.files),
    )


def _is_radiographic(connection: Connection, study_uid: str) -> bool:
    rows = select(instances.c.id).where(
        instances.c.study_uid == study_uid, instances.c.active == true(), instances.c.modality.in_(_MODALITIES)
    )
    return connection.execute(rows.limit(1)).first() is not None


def _candidates(connection: Connection, patient_id: str, apart_from: str, settings: Settings) -> Iterator[_Candidate]:
    spool = settings.data_dir / "spool"
    rows = connection.execute(
        select(instances.c.study_uid, instances.c.path, instances.c.digest)
        .where(
            instances.c.patient_id == patient_id,
            instances.c.study_uid != apart_from,
            instances.c.active == true(),
            ~instances.c.ours,
            instances.c.modality.in_(_MODALITIES),
        )
        .order_by(instances.c.received_at.desc(), instances.c.sop_instance_uid)
        .limit(_MOST_STUDIES * _MOST_FILES)
    )
    seen: dict[str, list[tuple[Path, str]]] = {}
    for row in rows:
        seen.setdefault(row.study_uid, []).append((spool / row.path, row.digest))
    yield from _here(seen.items())
    folder = settings.data_dir / fetched.FOLDER
    brought = {}
    for study in fetched.studies_of_patient(connection, patient_id, apart_from=apart_from)[:_MOST_STUDIES]:
        if study.study_uid not in seen:
            rows_of = fetched.instances_of_study(connection, study.study_uid)
            brought[study.study_uid] = [
                (folder / row.path, row.digest) for row in rows_of if row.modality in _MODALITIES
            ]
    yield from _here(brought.items())


def _here(studies: Iterable[tuple[str, Sequence[tuple[Path, str]]]]) -> Iterator[_Candidate]:
    """Studies whose files are still here."""
    for study_uid, files in studies:
        there = tuple(each for each in files if each[0].is_file())[:_MOST_FILES]
        if there and len(there) == len(files[:_MOST_FILES]):
            yield _Candidate(study_uid, there)


def _header(path: Path) -> Dataset | None:
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=[*_IDENTITY, *priors.MOMENTS], force=True)
    except (OSError, InvalidDicomError, AttributeError, ValueError, EOFError, NotImplementedError):
        return None


def _identity(header: Dataset) -> PatientIdentity:
    return PatientIdentity(*(str(header.get(keyword, "") or "") for keyword in _IDENTITY))
