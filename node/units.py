"""Which systemd units a configuration asks for, and where the sockets listen."""

from __future__ import annotations

from node.expected import Expected, expected_processes
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
    services = dict.fromkeys(map(_service, expected_processes(settings)))
    return listening | {f"ainode-{name}.service": "" for name in services}


def _service(expected: Expected) -> str:
    """Name of a process's unit: receivers share one, each dispatcher is an instance of one."""
    if expected.process == "dispatcher":
        return f"dispatcher@{expected.name.rpartition('-')[2]}"
    return expected.process


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
