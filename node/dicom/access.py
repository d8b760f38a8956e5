"""Who may open an association with this node. Pure: the caller negotiates, answers and records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from node.settings import PeerRule, PeerService, Settings


class Refusal(StrEnum):
    """Why an association is rejected; the value stands in the ledger."""

    CALLED_TITLE = "called AE title not recognised"
    CALLING_TITLE = "calling AE title not recognised"
    ADDRESS = "address not allowed"
    CERTIFICATE = "certificate not allowed"
    IDENTITY = "user identity not accepted"
    RATE = "too many associations in a minute"
    LIMIT = "too many associations"


# A-ASSOCIATE-RJ result, source and reason/diagnostic (PS3.8 table 9-21). An address that is on no list is given
# no reason: there is nothing an uninvited host should learn.
REJECTION: dict[Refusal, tuple[int, int, int]] = {
    Refusal.CALLED_TITLE: (0x01, 0x01, 0x07),
    Refusal.CALLING_TITLE: (0x01, 0x01, 0x03),
    Refusal.ADDRESS: (0x01, 0x01, 0x01),
    Refusal.CERTIFICATE: (0x01, 0x01, 0x01),
    # PS3.7 D.3.3.7: by the ACSE related provider, no reason given.
    Refusal.IDENTITY: (0x01, 0x02, 0x01),
    Refusal.RATE: (0x02, 0x03, 0x01),
    Refusal.LIMIT: (0x02, 0x03, 0x02),
}


@dataclass(frozen=True, slots=True)
class _Rule:
    calling_ae_title: str
    network: IPv4Network | IPv6Network
    called_ae_titles: frozenset[str]
    certificate: str
    services: frozenset[PeerService]

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a certificate with these names is the one asked for."""
        return not self.certificate or any(fnmatchcase(name.lower(), self.certificate) for name in names)


class AccessList:
    """The allow-list of ``[[receive.allow]]``, compiled once.

    Parameters
    ----------
    rules : iterable of PeerRule
        Any one that fits is enough.
    called_ae_titles : iterable of str
        Titles this node answers to.
    """

    def __init__(self, rules: Iterable[PeerRule], called_ae_titles: Iterable[str]) -> None:
        self._called = frozenset(called_ae_titles)
        self._rules = tuple(
            _Rule(
                rule.ae_title,
                ip_network(rule.address, strict=False),
                frozenset(rule.called_ae_titles),
                rule.certificate.lower(),
                frozenset(rule.services),
            )
            for rule in rules
        )

    @classmethod
    def of(cls, settings: Settings) -> AccessList:
        """The list of this node's configuration."""
        return cls(settings.receive.allow, settings.called_ae_titles)

    def knows(self, address: str) -> bool:
        """Whether anybody may associate from this numeric address."""
        return bool(self._rules_for(address))

    def refusal(
        self, *, calling_ae_title: str, called_ae_title: str, address: str, certificate_names: Sequence[str] = ()
    ) -> Refusal | None:
        """Why this requestor is not welcome, or None.

        Parameters
        ----------
        calling_ae_title, called_ae_title : str
            As requested; leading and trailing spaces are not significant (PS3.5 6.2).
        address : str
            Numeric address of the requestor.
        certificate_names : sequence of str
            Of the certificate it has shown, all of them; none without TLS.
        """
        found = self._decision(calling_ae_title, called_ae_title, address, certificate_names)
        return found if isinstance(found, Refusal) else None

    def services(
        self, *, calling_ae_title: str, called_ae_title: str, address: str, certificate_names: Sequence[str] = ()
    ) -> frozenset[PeerService] | None:
        """What this requestor may use, by all rules that fit it; None: everything. Parameters as for :meth:`refusal`."""
        found = self._decision(calling_ae_title, called_ae_title, address, certificate_names)
        if isinstance(found, Refusal):
            return frozenset()
        return (
            None if any(not rule.services for rule in found) else frozenset().union(*(each.services for each in found))
        )

    def _decision(
        self, calling_ae_title: str, called_ae_title: str, address: str, certificate_names: Sequence[str]
    ) -> Refusal | list[_Rule]:
        """The rules that let a requestor in, or why none does."""
        nearby = self._rules_for(address)
        if not nearby:
            return Refusal.ADDRESS
        called = called_ae_title.strip()
        if called not in self._called:
            return Refusal.CALLED_TITLE
        known = [rule for rule in nearby if rule.calling_ae_title in ("*", calling_ae_title.strip())]
        if not known:
            return Refusal.CALLING_TITLE
        for_title = [rule for rule in known if not rule.called_ae_titles or called in rule.called_ae_titles]
        if not for_title:
            return Refusal.CALLED_TITLE
        return [rule for rule in for_title if rule.fits(certificate_names)] or Refusal.CERTIFICATE

    def _rules_for(self, address: str) -> list[_Rule]:
        origin = ip_address(address)
        return [rule for rule in self._rules if origin.version == rule.network.version and origin in rule.network]
