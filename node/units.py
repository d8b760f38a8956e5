"""Which systemd units a configuration asks for, and where the sockets listen."""

from __future__ import annotations

from node.listening import Listener, addresses
from node.settings import Settings

_SOCKETS = {Listener.PLAIN: "ainode-receiver.socket", Listener.TLS: "ainode-receiver-tls.socket"}


def wanted_units(settings: Settings) -> dict[str, str]:
    """Units to enable.

    Returns
    -------
    dict
        Name → address to listen on, ``host:port``; empty for a service.
    """
    listening = {_SOCKETS[name]: _written(host, port) for name, (host, port) in addresses(settings).items()}
    services = ["receiver", "scheduler", "sender"]
    services += [f"dispatcher@{number + 1}" for number in range(settings.jobs.dispatchers)]
    for name, asked in (
        ("dispatcher-stat", settings.jobs.stat_slot),
        ("notifier", tells(settings)),
        ("hl7", settings.hl7.enabled),
        ("web", settings.web.enabled),
    ):
        services += [name] if asked else []
    return listening | {f"ainode-{name}.service": "" for name in services}


def tells(settings: Settings) -> bool:
    """Whether there is anybody for the notifier to tell."""
    return bool(settings.channel or any(each.availability for each in settings.destination.values()))


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
