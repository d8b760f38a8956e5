"""What of a study's identity a channel is given, by its setting ``identity``; nothing unless it asks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, true

from node.archive.tables import instances
from node.settings.notify import IdentityLevel


def identity_of(connection: Connection, study_uid: str, level: IdentityLevel) -> dict[str, str]:
    """Identity of a study as its images say now, corrections included.

    Returns
    -------
    dict
        Empty for ``none``. ``study_uid`` and ``accession_number`` for ``study``; for ``patient`` also ``patient_id``,
        ``issuer_of_patient_id``, ``patient_name`` (VR PN, its component groups divided by ``=``), ``birth_date`` (VR DA).
        What is not known is empty; nothing is made up.
    """
    if level == "none":
        return {}
    row: Any = connection.execute(
        select(
            instances.c.accession_number,
            instances.c.patient_id,
            instances.c.issuer_of_patient_id,
            instances.c.patient_name,
            instances.c.patient_birth_date,
        )
        .where(instances.c.study_uid == study_uid, instances.c.active == true(), ~instances.c.ours)
        .order_by(instances.c.sop_instance_uid)
        .limit(1)
    ).one_or_none()
    known = {"study_uid": study_uid, "accession_number": row.accession_number if row else ""}
    if level == "study":
        return known
    return {
        **known,
        "patient_id": row.patient_id if row else "",
        "issuer_of_patient_id": row.issuer_of_patient_id if row else "",
        "patient_name": row.patient_name if row else "",
        "birth_date": row.patient_birth_date if row else "",
    }
