"""Until when a result is of use: the report of a study is signed, and whoever signed it does not look again."""

from __future__ import annotations

from sqlalchemy import Connection, delete, or_, select, true, update

from node.archive import ledger
from node.archive.tables import instances, signed_reports, studies
from node.archive.upsert import insert_missing
from node.hl7.reports import SignedReport


def enter(connection: Connection, now: float, report: SignedReport, *, source: str) -> None:
    """Enter a report. A later version of one that was signed before changes nothing: the study was read then."""
    values = {"accession_number": report.accession_number, "study_uid": report.study_uid, "source": source}
    new = {**values, "signed_at": report.signed_at, "received_at": now}
    if insert_missing(connection, signed_reports, new, unique=["accession_number", "study_uid"]) is None:
        earlier = (
            (signed_reports.c.accession_number == report.accession_number)
            & (signed_reports.c.study_uid == report.study_uid)
            & (signed_reports.c.signed_at > report.signed_at)
        )
        connection.execute(update(signed_reports).where(earlier).values(signed_at=report.signed_at))
    named = studies.c.study_uid == (report.study_uid or "-")
    if report.accession_number:
        named = or_(named, studies.c.accession_number == report.accession_number)
    for study_uid in connection.execute(select(studies.c.study_uid).where(named)).scalars().all():
        ledger.record(
            connection,
            now,
            ledger.Kind.REPORT_SIGNED,
            study_uid=study_uid,
            signed_at=report.signed_at,
            sender=source,
        )


def useful_until(connection: Connection, study_uid: str) -> float | None:
    """When the report of a study was signed, seconds since the epoch; None where nobody has said so."""
    accessions = select(instances.c.accession_number).where(
        instances.c.study_uid == study_uid, instances.c.active == true(), instances.c.accession_number != ""
    )
    named = or_(
        signed_reports.c.study_uid == study_uid,
        (signed_reports.c.study_uid == "") & signed_reports.c.accession_number.in_(accessions),
    )
    statement = select(signed_reports.c.signed_at).where(named).order_by(signed_reports.c.signed_at).limit(1)
    return connection.execute(statement).scalar_one_or_none()


def forget(connection: Connection, before: float) -> int:
    """Remove reports that came before a time; return how many."""
    return int(connection.execute(delete(signed_reports).where(signed_reports.c.received_at < before)).rowcount)
