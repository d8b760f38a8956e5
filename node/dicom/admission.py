"""Everything that decides whether an association comes about, for one receiver process."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import Any

from pynetdicom.association import Association

from node.archive import ledger
from node.archive.engine import Store
from node.dicom.access import AccessList, Refusal
from node.dicom.association_slots import AssociationSlots
from node.dicom.connection import plain_address
from node.dicom.passcodes import Users
from node.dicom.rate_limit import RateLimit
from node.dicom.security_log import SecurityLog
from node.dicom.tls import RotatingContext, certificate_names
from node.dicom.tls_gate import TlsGate, TlsRefusal
from node.dicom.user_identity import is_accepted
from node.errors import TlsUnusable
from node.listening import Listener
from node.peer_certificates import PeerCertificates
from node.settings import PeerService, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who asks. ``address`` is numeric; ``association_id`` is unique over all processes."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    address: str


class Admission:
    """Decides, and holds what an accepted association takes up.

    Parameters
    ----------
    settings : Settings
    store : Store
        For the ledger.

    Raises
    ------
    UsersUnusable
        The file of users cannot be used.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._receive = settings.receive
        self._access = AccessList.of(settings)
        self._events = SecurityLog(store)
        self._users = Users(self._receive.users) if self._receive.users is not None else None
        folder = settings.data_dir / "run"
        folder.mkdir(parents=True, exist_ok=True)
        self._slots = AssociationSlots(folder / "associations", self._receive.maximum_associations)
        self._rate = RateLimit(folder / "rates")
        self._certificates = PeerCertificates(settings.data_dir)

    def close(self) -> None:
        """Give back what is shared with other processes."""
        self._slots.close()
        self._rate.close()

    def knows(self, address: str) -> bool:
        """Whether anybody may associate from this numeric address."""
        return self._access.knows(address)

    def gate(self, listener: Listener) -> TlsGate | None:
        """What a listener's connections pass through first."""
        if listener is Listener.PLAIN:
            return None
        context = RotatingContext.of_listener(self._receive.tls, self._on_renewal)
        context.current()
        return TlsGate(context, seconds=self._receive.tls.handshake_seconds, refused=self._on_tls_refused)

    def admit(self, association: Association, requestor: Requestor) -> Refusal | None:
        """Decide about an association request; None lets it in, until :meth:`ended` is called."""
        refusal = self._refusal(association, requestor)
        if refusal is not None:
            self._events.refused(
                ledger.Kind.ASSOCIATION_REJECTED,
                reason=refusal.value,
                address=requestor.address,
                calling_ae_title=requestor.calling_ae_title,
                called_ae_title=requestor.called_ae_title,
            )
        else:
            self._certificates.note(requestor.calling_ae_title, _certificate_of(association))
        return refusal

    def services(self, association: Association, requestor: Requestor) -> frozenset[PeerService] | None:
        """What an admitted requestor may use the association for; None: everything."""
        return self._access.services(
            calling_ae_title=requestor.calling_ae_title,
            called_ae_title=requestor.called_ae_title,
            address=requestor.address,
            certificate_names=_names_of(association),
        )

    def ended(self, association_id: str) -> None:
        """An admitted association is over."""
        self._slots.release(association_id)

    def _refusal(self, association: Association, requestor: Requestor) -> Refusal | None:
        refusal = self._access.refusal(
            calling_ae_title=requestor.calling_ae_title,
            called_ae_title=requestor.called_ae_title,
            address=requestor.address,
            certificate_names=_names_of(association),
        )
        if refusal is not None:
            return refusal
        receive = self._receive
        title = f"{requestor.address} {requestor.calling_ae_title}"
        if not (
            self._rate.allows(requestor.address, receive.rate_per_minute_of_address)
            and self._rate.allows(title, receive.rate_per_minute)
        ):
            return Refusal.RATE
        if not is_accepted(association, self._users, required=receive.require_user_identity):
            return Refusal.IDENTITY
        return None if self._slots.take(requestor.association_id) else Refusal.LIMIT

    def _on_tls_refused(self, reason: TlsRefusal, address: str) -> None:
        self._events.refused(ledger.Kind.TLS_REFUSED, reason=reason.value, address=plain_address(address))

    def _on_renewal(self, error: TlsUnusable | None) -> None:
        if error is None:
            self._events.note(ledger.Kind.TLS_RENEWED)
        else:
            self._events.note(ledger.Kind.TLS_UNUSABLE, message=error.message)


def _names_of(association: Association) -> tuple[str, ...]:
    return certificate_names(_certificate_of(association))


def _certificate_of(association: Association) -> dict[str, Any] | None:
    wrapper = association.dul.socket
    connection = wrapper.socket if wrapper is not None else None
    return connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
