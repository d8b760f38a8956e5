"""From rows of the ledger to audit messages. Reads the index for what a message must name: patient number, SOP classes."""

from __future__ import annotations

import base64
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from node.archive.event_kinds import Kind
from node.archive.tables import associations, canary_runs, instances, objects, studies
from node.audit import message as codes
from node.audit.message import AuditMessage, Code, Outcome, Participant, Thing
from node.settings import CANARY, Settings

_ALERTS: dict[str, Code] = {
    Kind.ASSOCIATION_REJECTED: codes.NODE_AUTHENTICATION,
    Kind.TLS_REFUSED: codes.NODE_AUTHENTICATION,
    Kind.TLS_UNUSABLE: codes.SECURITY_CONFIGURATION,
    Kind.TLS_RENEWED: codes.SECURITY_CONFIGURATION,
    Kind.MODEL_APPROVED: codes.SOFTWARE_CONFIGURATION,
    Kind.MODEL_REVOKED: codes.SOFTWARE_CONFIGURATION,
}
_REFUSALS = frozenset({Kind.ASSOCIATION_REJECTED, Kind.TLS_REFUSED, Kind.TLS_UNUSABLE})
_TRANSFERS: dict[str, tuple[Code, str]] = {
    Kind.DELIVERY_SENDING: (codes.BEGIN_TRANSFERRING, "E"),
    Kind.DELIVERY_STORED: (codes.INSTANCES_TRANSFERRED, "C"),
}
_SIGNING = (Kind.PERSON_SIGNED_IN, Kind.PERSON_REFUSED, Kind.PERSON_SIGNED_OUT)
WANTED = tuple(
    str(kind)
    for kind in (
        Kind.NODE_STARTED,
        Kind.NODE_STOPPED,
        Kind.ASSOCIATION_CLOSED,
        Kind.QUERY_SENT,
        *_SIGNING,
        Kind.PERSON_LOOKED,
        Kind.PERSON_RETRIEVED,
        *_TRANSFERS,
        *_ALERTS,
    )
)
"""Kinds of rows that become messages."""


class Translator:
    """Makes messages of one node.

    Parameters
    ----------
    settings : Settings
    connection : Connection
    """

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self._settings = settings
        self._connection = connection

    def messages(self, rows: Sequence[Row[Any]]) -> list[AuditMessage]:
        """Messages for rows of the ledger in their order; transfers of one study to one peer are one message."""
        found: list[AuditMessage] = []
        sent: dict[tuple[str, str, str], list[Row[Any]]] = {}
        for row in rows:
            if row.kind in _TRANSFERS:
                key = (row.kind, row.study_uid or "", row.detail.get("destination", ""))
                sent.setdefault(key, []).append(row)
            else:
                found += self._of(row)
        for (kind, study_uid, destination), of_study in sent.items():
            if destination != CANARY:
                found += self._sent(kind, study_uid, destination, of_study)
        return sorted(found, key=lambda each: each.at)

    def _of(self, row: Row[Any]) -> Iterator[AuditMessage]:
        match row.kind:
            case Kind.NODE_STARTED | Kind.NODE_STOPPED:
                yield self._activity(row)
            case Kind.ASSOCIATION_CLOSED:
                yield from self._received(row)
            case Kind.QUERY_SENT:
                yield self._query(row)
            case Kind.PERSON_SIGNED_IN | Kind.PERSON_REFUSED | Kind.PERSON_SIGNED_OUT:
                yield self._authentication(row)
            case Kind.PERSON_LOOKED:
                yield from self._access(row)
            case Kind.PERSON_RETRIEVED:
                yield self._retrieval(row)
            case _:
                yield self._alert(row)

    def _message(self, event: Code, action: str, at: float, *participants: Participant, **facts: Any) -> AuditMessage:
        node = self._settings.node
        source, site = f"{node.name}@{socket.gethostname()}", self._settings.audit.site or node.institution
        return AuditMessage(event, action, at, source, participants, site=site, **facts)

    def _self(self, role: Code | None, *, is_requestor: bool) -> Participant:
        title = self._settings.node.ae_title
        titles = f"AETITLES={';'.join(sorted(self._settings.called_ae_titles))}"
        return Participant(title, role, is_requestor, alternative_id=titles, address=socket.gethostname())

    def _activity(self, row: Row[Any]) -> AuditMessage:
        kind = codes.APPLICATION_START if row.kind == Kind.NODE_STARTED else codes.APPLICATION_STOP
        launcher = Participant("ainode serve", codes.APPLICATION_LAUNCHER, is_requestor=True)
        own = self._self(codes.APPLICATION, is_requestor=False)
        return self._message(codes.APPLICATION_ACTIVITY, "E", row.at, own, launcher, types=(kind,))

    def _received(self, row: Row[Any]) -> Iterator[AuditMessage]:
        """One message for each study that an association brought (PS3.15 A.5.3.7)."""
        identifier = row.detail.get("association_id")
        opened = self._connection.execute(select(associations).where(associations.c.id == identifier)).one_or_none()
        if opened is None or not row.detail.get("studies"):
            return  # taken away after the canary; or it brought nothing
        peer = Participant(opened.calling_ae_title, codes.SOURCE, is_requestor=True, address=opened.address)
        flown = select(canary_runs.c.study_uid)
        phantoms = set(
            self._connection.execute(flown.where(canary_runs.c.study_uid.in_(row.detail["studies"]))).scalars()
        )
        for study_uid in sorted(set(row.detail["studies"]) - phantoms):
            brought = (instances.c.association_id == identifier) & (instances.c.study_uid == study_uid)
            grouped = select(instances.c.sop_class_uid, func.count()).where(brought).group_by(instances.c.sop_class_uid)
            classes = {uid: int(count) for uid, count in self._connection.execute(grouped)}
            yield self._message(
                codes.INSTANCES_TRANSFERRED,
                "C",
                row.at,
                peer,
                self._self(codes.DESTINATION, is_requestor=False),
                objects=self._things(study_uid, classes),
            )

    def _sent(self, kind: str, study_uid: str, destination: str, rows: Sequence[Row[Any]]) -> Iterator[AuditMessage]:
        named = [row.sop_instance_uid for row in rows]
        chosen = select(objects.c.sop_class_uid).where(objects.c.sop_instance_uid.in_(named))
        event, action = _TRANSFERS[kind]
        section = self._settings.destination.get(destination)
        title = (section.ae_title or section.url) if section is not None else destination
        peer = Participant(title, codes.DESTINATION, is_requestor=False, address=section.host if section else "")
        yield self._message(
            event,
            action,
            rows[-1].at,
            self._self(codes.SOURCE, is_requestor=True),
            peer,
            objects=self._things(study_uid, Counter(self._connection.execute(chosen).scalars())),
        )

    def _things(self, study_uid: str, classes: dict[str, int]) -> tuple[Thing, ...]:
        statement = select(studies.c.patient_id).where(studies.c.study_uid == study_uid)
        patient_id = self._connection.execute(statement).scalar_one_or_none() or ""
        return Thing.study(study_uid, classes), Thing.patient(patient_id)

    def _query(self, row: Row[Any]) -> AuditMessage:
        query = base64.b64decode(row.detail.get("query", ""))
        thing = Thing(row.detail["sop_class"], codes.CLASS_UID, "2", "3", query=query)
        peer = Participant(row.detail["peer"], codes.DESTINATION, is_requestor=False)
        own = self._self(codes.SOURCE, is_requestor=True)
        return self._message(codes.QUERY, "E", row.at, own, peer, objects=(thing,))

    def _authentication(self, row: Row[Any]) -> AuditMessage:
        detail = row.detail
        person = Participant(detail.get("by") or "unknown", None, is_requestor=True, address=detail.get("address", ""))
        return self._message(
            codes.USER_AUTHENTICATION,
            "E",
            row.at,
            person,
            self._self(codes.APPLICATION, is_requestor=False),
            types=(codes.LOGOUT if row.kind == Kind.PERSON_SIGNED_OUT else codes.LOGIN,),
            outcome=Outcome.MINOR_FAILURE if row.kind == Kind.PERSON_REFUSED else Outcome.SUCCESS,
        )

    def _access(self, row: Row[Any]) -> Iterator[AuditMessage]:
        person = Participant(row.detail["by"], None, is_requestor=True, address=row.detail.get("address", ""))
        own = self._self(codes.APPLICATION, is_requestor=False)
        things = self._things(row.detail["study"], {})
        yield self._message(codes.INSTANCES_ACCESSED, "R", row.at, person, own, objects=things)

    def _retrieval(self, row: Row[Any]) -> AuditMessage:
        """By DICOMweb: objects that left are transferred (PS3.15 A.5.3.7); metadata and pictures are accessed (A.5.3.6)."""
        detail = row.detail
        event, action = (codes.INSTANCES_ACCESSED, "R")
        requestor, own = None, self._self(codes.APPLICATION, is_requestor=False)
        if detail.get("objects"):
            event, action = (codes.INSTANCES_TRANSFERRED, "C")
            requestor, own = codes.DESTINATION, self._self(codes.SOURCE, is_requestor=False)
        person = Participant(detail["by"], requestor, is_requestor=True, address=detail.get("address", ""))
        words = f"{detail['requests']} requests, {detail['series']} series, {detail['instances']} instances"
        things = self._things(detail["study"], {})
        return self._message(event, action, row.at, own, person, objects=things, words=words)

    def _alert(self, row: Row[Any]) -> AuditMessage:
        detail = row.detail
        who = str(detail.get("calling_ae_title") or detail.get("by") or detail.get("address") or "ainode")
        reporter = self._self(codes.APPLICATION, is_requestor=False)
        actor = Participant(who, None, is_requestor=True, address=str(detail.get("address") or ""))
        words = str(detail.get("reason") or detail.get("message") or detail.get("model") or row.kind)
        return self._message(
            codes.SECURITY_ALERT,
            "E",
            row.at,
            reporter,
            actor,
            types=(_ALERTS[row.kind],),
            outcome=Outcome.SERIOUS_FAILURE if row.kind in _REFUSALS else Outcome.SUCCESS,
            words=words,
            objects=(Thing(self._settings.node.name, codes.NODE_ID, "2", "13"),),
        )
