"""Sets of objects a destination cannot take: the whole set is withdrawn, and one it takes is made from the stored result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import Connection, select

from node.archive import ledger
from node.archive.tables import deliveries, jobs, objects
from node.delivery import capabilities
from node.delivery.delivery_rows import Delivery, rows_where, set_values, withdraw_replaced
from node.delivery.delivery_states import WAITING, DeliveryState
from node.delivery.variants import in_words, variant
from node.jobs import queue
from node.jobs.queue import JobKind
from node.settings import ProfileSection


def file(connection: Connection, now: float, destination: str, refused: Sequence[Delivery]) -> set[int]:
    """File a render job for each set that a destination refused an object of; return the jobs whose sets are withdrawn.

    Parameters
    ----------
    refused : sequence of Delivery
        Claimed deliveries whose presentation context was not accepted.

    Notes
    -----
    A set without a stored result, or of which the destination takes no other form, is left as it is. A note about an earlier
    result becomes a text where Key Object Selections are not taken.
    """
    keys = [_key(delivery) for delivery in refused]
    news = capabilities.refuse(connection, destination, keys)
    if news:
        ledger.record(
            connection, now, ledger.Kind.DESTINATION_REFUSED, destination=destination, refused=sorted(set(keys))
        )
    known = capabilities.of(connection, destination)
    return {
        job_id
        for job_id in dict.fromkeys(delivery.job_id for delivery in refused)
        if _file_one(connection, now, destination, job_id, known)
    }


def _key(delivery: Delivery) -> str:
    """What was refused: the class, or where it was compressed the class in that transfer syntax."""
    if delivery.transfer_syntax_uid == ExplicitVRLittleEndian:
        return delivery.sop_class_uid
    return f"{delivery.sop_class_uid} {delivery.transfer_syntax_uid}"


def _file_one(
    connection: Connection, now: float, destination: str, job_id: int, known: capabilities.Capabilities
) -> bool:
    job = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    run = connection.execute(select(jobs).where(jobs.c.id == (job.parent_id or job.id))).one()
    is_status = job.kind == JobKind.STATUS
    is_note = job.kind == JobKind.RETRACT
    if not (is_note or is_status or (run.result or {}).get("stored")):
        return False
    profiles = job.specification["profiles"]
    names = [name for name, those in job.specification["destinations"].items() if destination in those]
    if not names:
        return False
    section = ProfileSection.model_validate(profiles[names[0]])
    name, chosen = (names[0], in_words(section, known)) if is_note else variant(names[0], section, known)
    if chosen == section or (name == names[0] and not is_note):
        return False
    specification = {
        **job.specification,
        "profiles": {name: chosen.model_dump(mode="json")},
        "destinations": {name: [destination]},
    }
    render = queue.enqueue(
        connection,
        now,
        study_uid=job.study_uid,
        rule=job.rule,
        model_id=job.model_id,
        input_key=hashlib.sha256(
            f"render {job.id if is_status or is_note else run.id} {destination} {name}".encode()
        ).hexdigest(),
        priority=queue.Priority(job.priority),
        maximum_attempts=job.maximum_attempts,
        specification=specification,
        shadow=False,
        run=run.run,
        kind=JobKind(job.kind) if is_status or is_note else JobKind.RENDER,
        parent_id=run.id,
    )
    if render is None:
        return False
    _withdraw(connection, now, destination, job_id, by=render)
    return True


def _withdraw(connection: Connection, now: float, destination: str, job_id: int, *, by: int) -> None:
    """Withdraw what of a set waits for the destination; what is being sent is left to its courier.

    What may be there already is taken back when the new set is made.
    """
    rows = rows_where(
        connection,
        deliveries.c.destination == destination,
        objects.c.job_id == job_id,
        deliveries.c.replaced_by.is_(None),
        deliveries.c.state.in_([*map(str, WAITING), str(DeliveryState.SENDING)]),
    )
    for row in rows:
        set_values(connection, row.id, replaced_by=by)
        if row.state in WAITING:
            withdraw_replaced(connection, now, row, by=by)
