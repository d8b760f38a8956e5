"""The earlier study that stands beside one in the viewer: the same patient beyond doubt, or none."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, true

from node import priors
from node.archive.tables import instances, jobs, studies
from node.web.dicomweb.attributes import HeaderReader, tag_of
from node.web.dicomweb.holdings import Holdings

_MOST_STUDIES = 50


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier study.

    Attributes
    ----------
    compared : bool
        A result of this study was compared with it.
    """

    study_uid: str
    date: str
    compared: bool = False


def earlier_study(connection: Connection, holdings: Holdings, headers: HeaderReader, study_uid: str) -> Earlier | None:
    """The study a result was compared with; else the latest one before of the same patient and a modality of this one.

    None where identity is in doubt (:func:`node.priors.doubtful`), or an images' date is not known.
    """
    here = _date(connection, holdings, headers, study_uid)
    identities = priors.identities(connection, study_uid)
    patient_ids = {each.patient_id.strip() for each in identities} - {""}
    if not here or len(patient_ids) != 1:
        return None
    compared = _compared(connection, study_uid)
    wanted = _modalities(connection, study_uid)
    found = []
    for uid in _others(connection, patient_ids.pop(), study_uid):
        date = _date(connection, holdings, headers, uid)
        if not date or date > here or not wanted & _modalities(connection, uid):
            continue
        if not priors.doubtful(identities | priors.identities(connection, uid)):
            found.append(Earlier(uid, date[:8], uid == compared))
    return max(found, key=lambda each: (each.compared, each.date, each.study_uid), default=None)


def _others(connection: Connection, patient_id: str, study_uid: str) -> list[str]:
    statement = (
        select(studies.c.study_uid)
        .where(
            studies.c.study_uid.in_(
                select(instances.c.study_uid).where(
                    instances.c.patient_id == patient_id, instances.c.active == true(), ~instances.c.ours
                )
            ),
            studies.c.study_uid != study_uid,
            studies.c.held_reason.is_(None),
        )
        .order_by(studies.c.last_at.desc())
        .limit(_MOST_STUDIES)
    )
    return list(connection.execute(statement).scalars())


def _modalities(connection: Connection, study_uid: str) -> set[str]:
    statement = select(instances.c.modality).where(
        instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours
    )
    return set(connection.execute(statement.distinct()).scalars())


def _date(connection: Connection, holdings: Holdings, headers: HeaderReader, study_uid: str) -> str:
    """Study Date and Time; empty where there is no date."""
    first = holdings.first(connection, study_uid)
    if first is None:
        return ""
    found = headers.of(first, ["StudyDate", "StudyTime"])
    date, time = (str((found[tag_of(keyword)].get("Value") or [""])[0]) for keyword in ("StudyDate", "StudyTime"))
    return date + time if date else ""


def _compared(connection: Connection, study_uid: str) -> str:
    statement = (
        select(jobs.c.result).where(jobs.c.study_uid == study_uid, jobs.c.state == "done").order_by(jobs.c.id.desc())
    )
    for result in connection.execute(statement).scalars():
        comparison = (result or {}).get("comparison") or {}
        if comparison.get("prior_study_uid"):
            return str(comparison["prior_study_uid"])
    return ""
