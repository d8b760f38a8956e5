"""Which processes the configuration asks for: who starts them and who watches them must agree."""

from __future__ import annotations

from dataclasses import dataclass

from node.settings import Settings


@dataclass(frozen=True, slots=True)
class Expected:
    """One process of the node.

    Attributes
    ----------
    name : str
        Among all, ``receiver-1``.
    process : str
        What it calls itself in log and pulse.
    words : tuple of str
        After ``ainode run``.
    listens : bool
        It inherits the listening sockets.
    """

    name: str
    process: str
    words: tuple[str, ...]
    listens: bool = False


def expected_processes(settings: Settings) -> list[Expected]:
    """Every process that ``ainode serve`` runs, in the order it starts them."""
    receivers = [
        Expected(f"receiver-{number + 1}", "receiver", ("receiver",), listens=True)
        for number in range(settings.receive.processes)
    ]
    dispatchers = [
        Expected(f"dispatcher-{number + 1}", "dispatcher", ("dispatcher",))
        for number in range(settings.jobs.dispatchers)
    ]
    if settings.jobs.stat_slot:
        dispatchers.append(Expected("dispatcher-stat", "dispatcher-stat", ("dispatcher", "--stat-only")))
    asked_for = []
    if settings.channel or any(each.availability for each in settings.destination.values()):
        asked_for.append("notifier")
    if settings.hl7.enabled:
        asked_for.append("hl7")
    if settings.web.enabled:
        asked_for.append("web")
    if settings.monitor.wanted or settings.canary.enabled or settings.audit.enabled:
        asked_for.append("monitor")
    return [*receivers, _plain("scheduler"), *dispatchers, _plain("sender"), *map(_plain, asked_for)]


def _plain(name: str) -> Expected:
    return Expected(name, name, (name,))
