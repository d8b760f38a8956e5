"""The running node and its peers."""

from __future__ import annotations

import socket
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx

from models.errors import NodeError
from node.commands.table import opened
from node.egress import egress
from node.errors import ChildDied, Misconfigured, PeerUnreachable, ProcessSilent
from node.monitor.alarms import standing_alarms
from node.monitor.condition import PAGE
from node.readiness import problems
from node.settings import Settings
from node.status import ask

_SKEW_SECONDS = 60.0
_WAIT_SECONDS = 3.0


def node(settings: Settings) -> str:
    """It runs, every process gives signs of life, and nothing keeps it from its work."""
    report = ask(settings.data_dir)
    if down := [each["name"] for each in report["processes"] if not each["running"]]:
        raise ChildDied(f"these processes are down: {', '.join(down)}")
    with opened(settings) as store:
        found = problems(settings, store)
    if found:
        raise ProcessSilent("; ".join(each.removeprefix(f"{ProcessSilent.code}: ") for each in found))
    return f"running and ready, {len(report['processes'])} processes"


def alarms(settings: Settings) -> str:
    """No alarm stands."""
    standing = standing_alarms(settings.data_dir)
    if standing:
        told = [f"{each.key.rstrip('/')}: {each.words} ({PAGE}#{each.alarm})" for each in standing]
        raise Misconfigured("; ".join(told))
    return "none stands" if settings.monitor.wanted or settings.canary.enabled else "the monitor is not configured"


def peers(settings: Settings) -> str:
    """Whatever this node calls can be connected to."""
    called = [each for each in egress(settings) if each.protocol == "tcp"]
    silent = []
    for peer in called:
        try:
            socket.create_connection((peer.host, peer.port), timeout=_WAIT_SECONDS).close()
        except OSError as error:
            silent.append(f"{peer.name} at {peer.host}:{peer.port} ({error.strerror or type(error).__name__})")
    if silent:
        raise PeerUnreachable(f"no connection: {'; '.join(silent)}")
    return f"{len(called)} can be connected to"


def clock(settings: Settings) -> str:
    """This machine's clock agrees with those of peers that tell the time: web services (HTTP Date), the database."""
    skews = dict(_skews(settings))
    far = {name: skew for name, skew in skews.items() if abs(skew) > _SKEW_SECONDS}
    if far:
        told = ", ".join(f"{name} by {skew:+.0f} s" for name, skew in far.items())
        raise Misconfigured(f"the clock differs from {told}; see that NTP runs on both (`timedatectl`)")
    if not skews:
        return "no peer tells the time (DICOM knows no way to ask)"
    return f"within {max(abs(each) for each in skews.values()):.0f} s of {', '.join(skews)}"


def _skews(settings: Settings) -> list[tuple[str, float]]:
    """Peers and how far their clock is ahead of ours, in seconds."""
    found = []
    urls = {f"destination.{name}": each.url for name, each in settings.destination.items() if each.url}
    urls |= {f"web_source.{name}": each.url for name, each in settings.web_source.items()}
    for name, url in urls.items():
        try:
            parts = urlsplit(url)
            # Nothing is verified and nothing asked for but the time.
            answer = httpx.head(f"{parts.scheme}://{parts.netloc}/", timeout=_WAIT_SECONDS, verify=False)
            found.append((name, parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()))
        except (httpx.HTTPError, KeyError, ValueError):
            continue  # whether it answers is another examination's question
    try:
        found += _database_skew(settings)
    except NodeError:
        pass  # likewise
    return found


def _database_skew(settings: Settings) -> list[tuple[str, float]]:
    from sqlalchemy import text

    from node.archive.engine import Dialect

    with opened(settings) as store, store.read() as connection:
        if store.dialect is not Dialect.POSTGRESQL:
            return []
        told = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    return [("store.url", float(told) - time.time())]
