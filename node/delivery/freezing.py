"""Objects become final: frozen with the end of their job, with a delivery for each destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, select

from node.archive import ledger, tables
from node.archive.tables import deliveries
from node.archive.upsert import insert_missing
from node.delivery.delivery_states import DeliveryState
from node.errors import FrozenObjectDiffers


class FrozenObject(Protocol):
    """What is frozen: :class:`node.jobs.specification.WrittenObject`, with its path relative to the outbox."""

    @property
    def role(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def path(self) -> Any: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


def freeze(
    connection: Connection,
    now: float,
    *,
    job_id: int,
    study_uid: str,
    objects: Sequence[FrozenObject],
    destinations: Mapping[str, Sequence[str]],
    priority: int,
) -> list[int]:
    """Make objects final and file their deliveries, in the transaction that ends their job.

    Parameters
    ----------
    objects : sequence
        Files already in the outbox folder and synced; ``path`` relative to it.
    destinations : mapping
        Profile → names of the destinations that use it. A profile without any (a shadow rule) is frozen, not sent.

    Returns
    -------
    list of int
        Numbers of the new deliveries. Freezing the same bytes again adds nothing.

    Raises
    ------
    FrozenObjectDiffers
        A UID was frozen before with other bytes. Roll the transaction back.
    """
    new: list[int] = []
    for written in objects:
        if _freeze_one(connection, now, written, job_id=job_id, study_uid=study_uid):
            ledger.record(
                connection,
                now,
                ledger.Kind.OBJECT_FROZEN,
                study_uid=study_uid,
                job_id=job_id,
                sop_instance_uid=written.sop_instance_uid,
                role=written.role,
                profile=written.profile,
                digest=written.digest,
                size=written.size,
            )
        for destination in destinations.get(written.profile, ()):
            row = {"sop_instance_uid": written.sop_instance_uid, "destination": destination}
            filed = {"state": str(DeliveryState.QUEUED), "priority": int(priority), "attempts": 0}
            added = insert_missing(
                connection,
                deliveries,
                {**row, **filed, "not_before": now, "created_at": now},
                unique=list(row),
            )
            if added is not None:
                new.append(int(added))
    return new


def _freeze_one(connection: Connection, now: float, written: FrozenObject, *, job_id: int, study_uid: str) -> bool:
    added = insert_missing(
        connection,
        tables.objects,
        {
            "sop_instance_uid": written.sop_instance_uid,
            "sop_class_uid": written.sop_class_uid,
            "series_uid": written.series_uid,
            "study_uid": study_uid,
            "transfer_syntax_uid": written.transfer_syntax_uid,
            "job_id": job_id,
            "role": written.role,
            "profile": written.profile,
            "path": str(written.path),
            "digest": written.digest,
            "size": written.size,
            "frozen_at": now,
        },
        unique=["sop_instance_uid"],
    )
    if added is not None:
        return True
    before = connection.execute(
        select(tables.objects.c.digest).where(tables.objects.c.sop_instance_uid == written.sop_instance_uid)
    ).scalar_one()
    if before != written.digest:
        raise FrozenObjectDiffers(
            f"an object {written.role} was frozen before with other bytes",
            sop_instance_uid=written.sop_instance_uid,
            frozen=before,
            offered=written.digest,
        )
    return False
