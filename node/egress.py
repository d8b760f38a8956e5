"""Every peer this node opens connections to, read from the configuration: for the firewall, and for who reviews it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from node.settings import CANARY, ClientTlsSection, EmailSection, Hl7Section, Settings
from node.settings.notify import ChannelSection

_PORTS = {"http": 80, "https": 443, "postgresql": 5432}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Peer:
    """One address this node calls.

    Attributes
    ----------
    name : str
        Key of the configuration that names it.
    host : str
        As configured.
    port : int
    why : str
    encrypted : bool
        TLS, as far as the configuration says.
    patient_data : bool
        Whether identities of patients go there.
    protocol : str
        ``tcp`` or ``udp``.
    probed : bool
        It speaks TLS from the first byte, so that its certificate can be looked at.
    tls : ClientTlsSection or None
        How it is spoken to, where the configuration says more than that it is.
    """

    name: str
    host: str
    port: int
    why: str
    encrypted: bool
    patient_data: bool
    protocol: str = "tcp"
    probed: bool = True
    tls: ClientTlsSection | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.host in _LOOPBACK or self.host.startswith("/")


def egress(settings: Settings) -> list[Peer]:
    """Every peer, in the order of the configuration. Nothing else is ever called."""
    return [*_dicom(settings), *_web(settings), *_told(settings), *_watching(settings), *_database(settings)]


def _dicom(settings: Settings) -> Iterator[Peer]:
    for name, destination in settings.destination.items():
        if name == CANARY:
            continue  # a phantom to this very process, on loopback
        key = f"destination.{name}"
        if destination.url:
            yield from _service(key, destination.url, "results (STOW-RS), proof (QIDO-RS)", destination)
        else:
            yield _association(
                key, destination.host, destination.port, "results (C-STORE), commitment, query", destination.tls
            )
        if (told := destination.availability) is not None:
            yield _association(f"{key}.availability", told.host, told.port, "availability of results (IAN)", told.tls)
    for name, worklist in settings.worklist.items():
        yield _association(f"worklist.{name}", worklist.host, worklist.port, "modality worklist (C-FIND)", None)
    for each in settings.evidence.requestor if settings.evidence.answer_commitment else ():
        why = "answers to storage commitment"
        yield _association(f"evidence.requestor.{each.ae_title}", each.host, each.port, why, None)


def _association(key: str, host: str, port: int, why: str, tls: ClientTlsSection | None) -> Peer:
    return Peer(key, host, port, why, tls is not None, patient_data=True, tls=tls)


def _web(settings: Settings) -> Iterator[Peer]:
    for name, source in settings.web_source.items():
        peers = _service(f"web_source.{name}", source.url, "images (QIDO-RS, WADO-RS)", source)
        yield from peers
    for name, manager in settings.workitems.items():
        key, why = f"workitems.{name}", "workitems of others (UPS)"
        if manager.url:
            yield from _service(key, manager.url, why, manager)
        elif manager.port is not None:
            yield _association(key, manager.host, manager.port, why, manager.tls)
    if settings.remote.enabled:
        for name, endpoint in settings.remote.endpoint.items():
            key, why = f"remote.endpoint.{name}", "models outside (de-identified)"
            yield _address(key, endpoint.url, why, patient_data=False, tls=endpoint.tls)
    if settings.web.enabled and (oidc := settings.web.oidc) is not None:
        tls = ClientTlsSection(ca=oidc.ca) if oidc.ca is not None else None
        # Its other addresses are what its discovery document says; most keep them at the same host.
        yield _address("web.oidc", oidc.issuer, "sign-on (OpenID Connect)", patient_data=False, tls=tls)


def _service(key: str, url: str, why: str, section: object) -> Iterator[Peer]:
    tls = getattr(section, "tls", None)
    yield _address(key, url, why, patient_data=True, tls=tls)
    if (oauth := getattr(section, "oauth", None)) is not None:
        yield _address(f"{key}.oauth", oauth.token_url, "access tokens (OAuth 2.0)", patient_data=False)


def _address(key: str, url: str, why: str, *, patient_data: bool, tls: ClientTlsSection | None = None) -> Peer:
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return Peer(key, parts.hostname or "", port, why, parts.scheme == "https", patient_data, tls=tls)


def _told(settings: Settings) -> Iterator[Peer]:
    for name, channel in settings.channel.items():
        yield from _channel(f"channel.{name}", channel)


def _channel(key: str, channel: ChannelSection) -> Iterator[Peer]:
    identified = channel.identity != "none"
    match channel:
        case EmailSection():
            plain = channel.security == "none"
            at_once = channel.security == "tls"
            yield Peer(
                key, channel.host, channel.port, "e-mail", not plain, identified, probed=at_once, tls=channel.tls
            )
        case Hl7Section():
            yield Peer(
                key, channel.host, channel.port, "HL7 results", channel.tls is not None, identified, tls=channel.tls
            )
        case _:
            yield _address(key, channel.url, channel.kind, patient_data=identified, tls=channel.tls)
            if (oauth := getattr(channel, "oauth", None)) is not None:
                yield _address(f"{key}.oauth", oauth.token_url, "access tokens (OAuth 2.0)", patient_data=False)


def _watching(settings: Settings) -> Iterator[Peer]:
    if settings.audit.enabled:
        secure = settings.audit.transport == "tls"
        protocol = "tcp" if secure else "udp"
        why = "audit messages (syslog)"
        audit = settings.audit
        yield Peer("audit", audit.host, audit.port, why, secure, True, protocol, tls=audit.tls)
    if settings.monitor.dead_man_url:
        yield _address("monitor.dead_man_url", settings.monitor.dead_man_url, "dead-man ping", patient_data=False)


def _database(settings: Settings) -> Iterator[Peer]:
    parts = urlsplit(settings.store.url)
    if parts.scheme.startswith("postgresql") and parts.hostname:
        secure = re.search(r"sslmode=(require|verify-ca|verify-full)", parts.query) is not None
        port = parts.port or _PORTS["postgresql"]
        yield Peer("store.url", parts.hostname, port, "the node's own database", secure, True, probed=False)


def ruleset(peers: Sequence[Peer], *, user: str, resolved: dict[str, list[str]]) -> str:
    """An nftables ruleset that lets the node's user call these peers, and nobody else.

    Parameters
    ----------
    peers : sequence of Peer
    user : str
        Name of the system user the node runs as.
    resolved : dict
        Host name → numeric addresses, for hosts that are names: nftables knows addresses only.
    """
    lines = [
        "#!/usr/sbin/nft -f",
        "# Made by `ainode egress --nftables`. Names were resolved when it was made: make it again when addresses change.",
        "table inet ainode_egress",
        "delete table inet ainode_egress",
        "table inet ainode_egress {",
        "  chain output {",
        "    type filter hook output priority filter; policy accept;",
        f'    meta skuid != "{user}" return',
        '    oifname "lo" accept',
        "    ct state established,related accept",
        '    meta l4proto { tcp, udp } th dport 53 accept comment "names"',
    ]
    for peer in peers:
        if peer.is_loopback:
            continue
        for address in resolved.get(peer.host, [peer.host]):
            family = "ip6" if ipaddress.ip_address(address).version == 6 else "ip"
            lines.append(
                f'    {family} daddr {address} {peer.protocol} dport {peer.port} accept comment "{_comment(peer.name)}"'
            )
    lines += ['    counter reject comment "nobody else"', "  }", "}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:60]


def is_numeric(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
