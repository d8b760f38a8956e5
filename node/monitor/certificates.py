"""When certificates expire: the node's own, and those its peers show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from node.dicom.certificate_dates import own_certificates, own_end, peer_end
from node.egress import egress
from node.errors import NodeError
from node.monitor.condition import Alarm, Condition
from node.peer_certificates import shown
from node.settings import Settings

DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class CertificateDate:
    """A certificate and its end.

    Attributes
    ----------
    name : str
        Key of the configuration that names it, or the peer it is of.
    expires_at : float or None
        Seconds since the epoch; None where it cannot be used or was not shown.
    problem : str
        Why ``expires_at`` is None.
    """

    name: str
    expires_at: float | None
    problem: str = ""

    @property
    def days(self) -> float | None:
        """Days left; negative where it has expired."""
        return None if self.expires_at is None else (self.expires_at - time.time()) / DAY_SECONDS


def own_dates(settings: Settings) -> list[CertificateDate]:
    """The node's own certificates."""
    found = []
    for name, path in own_certificates(settings):
        try:
            found.append(CertificateDate(name, own_end(path).timestamp()))
        except NodeError as error:
            found.append(CertificateDate(name, None, error.message))
    return found


def peer_dates(settings: Settings) -> list[CertificateDate]:
    """What TLS peers show; a peer that does not answer is left out: whoever uses it says so."""
    found = []
    for peer in egress(settings):
        if peer.encrypted and peer.probed and (ends := peer_end(peer.host, peer.port, peer.tls)) is not None:
            found.append(CertificateDate(f"peer {peer.name}", ends.timestamp()))
    return found


def shown_dates(settings: Settings) -> list[CertificateDate]:
    """What peers have shown that call us with a client certificate."""
    return [CertificateDate(f"peer {title}", ends) for title, ends in shown(settings.data_dir).items()]


def certificate_conditions(dates: list[CertificateDate], days: int) -> list[Condition]:
    """Certificates that have expired, cannot be used, or expire within ``days``."""
    found = []
    for each in dates:
        if each.days is None:
            found.append(Condition(Alarm.CERTIFICATE_EXPIRES, each.name, f"{each.name}: {each.problem}"))
        elif each.days < days:
            assert each.expires_at is not None
            day = datetime.fromtimestamp(each.expires_at, UTC)
            how = "has expired" if each.days < 0 else f"expires in {each.days:.0f} days"
            found.append(Condition(Alarm.CERTIFICATE_EXPIRES, each.name, f"{each.name}: {how}, on {day:%Y-%m-%d}"))
    return found
