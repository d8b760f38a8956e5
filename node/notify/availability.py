"""Who is told by Instance Availability Notification, and when: once for each run, when everything of it is committed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, select

from node.archive.tables import deliveries, jobs, notifications, objects
from node.delivery.delivery_states import DeliveryState, Proven
from node.dicom.availability import notify_availability, peer_told
from node.notify import notification_rows
from node.notify.notification_rows import Notification
from node.notify.states import Event
from node.settings import AvailabilitySection, DestinationSection, Settings

_NAMESPACE = uuid.UUID("0f0dd4f3-2f0d-5d35-9a6a-6f5f6f9f6c11")
_BATCH = 50
_URGENCY = 2


def channel_of(destination: str) -> str:
    """Name of the channel for a destination; no configured channel can have it."""
    return f"{notification_rows.AVAILABILITY_PREFIX}{destination}"


def told_destinations(settings: Settings) -> dict[str, AvailabilitySection]:
    """Destinations about which somebody is told."""
    found = settings.destination.items()
    return {name: each.availability for name, each in found if each.availability is not None}


def is_available(connection: Connection, settings: Settings) -> bool:
    """Whether :func:`file_available` would find anything."""
    return any(_complete(connection, name) for name in told_destinations(settings))


def file_available(connection: Connection, now: float, settings: Settings) -> int:
    """File a notification for each run of which a destination has committed to every object; return how many.

    What was withdrawn or given up on is not waited for: it never comes.
    """
    count = 0
    for name in told_destinations(settings):
        for job in _complete(connection, name):
            count += _file(connection, now, job, name, settings.destination[name])
    return count


def _complete(connection: Connection, destination: str) -> list[Row[Any]]:
    over = deliveries.c.state.in_([str(DeliveryState.WITHDRAWN), str(DeliveryState.DEAD)])
    waiting = (
        select(objects.c.job_id)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(deliveries.c.destination == destination, ~(over | _is_proven()))
    )
    told = exists().where(notifications.c.job_id == jobs.c.id, notifications.c.channel == channel_of(destination))
    statement = (
        select(jobs.c.id, jobs.c.study_uid)
        .join(objects, objects.c.job_id == jobs.c.id)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(
            deliveries.c.destination == destination,
            _is_proven(),
            jobs.c.superseded_at.is_(None),
            jobs.c.id.not_in(waiting),
            ~told,
        )
        .group_by(jobs.c.id, jobs.c.study_uid)
        .order_by(jobs.c.id)
        .limit(_BATCH)
    )
    return list(connection.execute(statement))


def _is_proven() -> ColumnElement[bool]:
    """By commitment, or because the destination lists the object."""
    by_query = (deliveries.c.state == DeliveryState.STORED) & (deliveries.c.proof == Proven.QUERY)
    return (deliveries.c.state == DeliveryState.COMMITTED) | by_query


def _file(connection: Connection, now: float, job: Row[Any], name: str, destination: DestinationSection) -> bool:
    committed = connection.execute(
        select(objects.c.series_uid, objects.c.sop_class_uid, objects.c.sop_instance_uid)
        .join(deliveries, deliveries.c.sop_instance_uid == objects.c.sop_instance_uid)
        .where(
            objects.c.job_id == job.id,
            deliveries.c.destination == name,
            _is_proven(),
        )
        .order_by(objects.c.series_uid, objects.c.sop_instance_uid)
    ).all()
    content = {
        "event": str(Event.AVAILABILITY),
        "study_uid": job.study_uid,
        "retrieve_ae_title": destination.ae_title,
        "objects": [dict(each._mapping) for each in committed],
    }
    filed = notification_rows.file(
        connection,
        now,
        key=f"availability:{job.id}:{name}:{min(each.sop_instance_uid for each in committed)}",
        alert_id=None,
        job_id=job.id,
        study_uid=job.study_uid,
        channel=channel_of(name),
        event=Event.AVAILABILITY,
        content=content,
        priority=_URGENCY,
    )
    return filed is not None


class AvailabilityTransport:
    """Tells one peer."""

    def __init__(self, section: AvailabilitySection, calling_ae_title: str) -> None:
        self._peer = peer_told(section, calling_ae_title)

    def send(self, notification: Notification) -> str:
        """Tell it; return and errors as :func:`notify_availability`."""
        content: Mapping[str, Any] = notification.content
        name = uuid.uuid5(_NAMESPACE, notification.control_id)
        return notify_availability(self._peer, f"2.25.{name.int}", content)
