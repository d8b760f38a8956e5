"""The listening sockets: bound once by the supervisor (or systemd) and inherited by every receiver.

The protocol is that of ``sd_listen_fds(3)``: ``LISTEN_FDS`` counts descriptors from 3 on, ``LISTEN_FDNAMES`` names them,
``LISTEN_PID`` says whom they are for. Our supervisor leaves ``LISTEN_PID`` out, because it cannot know a child's number
before it exists.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Any

from node.errors import ConfigError
from node.settings import Settings

FIRST_DESCRIPTOR = 3
BACKLOG = 512
# Where a child's sockets wait while they are moved, so that none is overwritten by another.
_ASIDE = 100


class Listener(StrEnum):
    """Which listener; the value is its name towards systemd (``FileDescriptorName=``)."""

    PLAIN = "dicom"
    TLS = "dicom-tls"


def addresses(settings: Settings) -> dict[Listener, tuple[str, int]]:
    """Host and port of every listener of the configuration."""
    receive = settings.receive
    wanted = {Listener.PLAIN: (receive.host, receive.port)} if receive.plain else {}
    return {**wanted, Listener.TLS: (receive.host, receive.tls.port)} if receive.tls.enabled else wanted


@contextmanager
def listening(settings: Settings) -> Iterator[dict[Listener, socket.socket]]:
    """The sockets handed to this process, or new ones; closed at the end.

    Raises
    ------
    ConfigError
        An address is in use or not ours; other sockets were handed over than the configuration wants.
    """
    wanted = addresses(settings)
    with ExitStack() as stack:
        found = inherited(tuple(wanted))
        if found:
            check_addresses(found, settings)
        else:
            found = {name: stack.enter_context(bind(*address, name)) for name, address in wanted.items()}
        for listener in found.values():
            stack.callback(listener.close)
        yield found


def bind(host: str, port: int, listener: Listener = Listener.PLAIN) -> socket.socket:
    """Bind and listen.

    Raises
    ------
    ConfigError
        The address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    key = "receive.port" if listener is Listener.PLAIN else "receive.tls.port"
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"receive.host, {key}: cannot listen on {host}:{port} ({_reason(error)})") from error


def inherited(wanted: tuple[Listener, ...] = (Listener.PLAIN,)) -> dict[Listener, socket.socket]:
    """The sockets handed to this process, none where there are none.

    By name where the names are ours, else in the order of ``wanted``. Forgets the variables, so that children do not
    think them theirs.

    Raises
    ------
    ConfigError
        There are more or fewer of them, or they have other names.
    """
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or int(count) < 1 or (pid and pid != str(os.getpid())):
        return {}
    if int(count) != len(wanted):
        raise ConfigError(
            f"LISTEN_FDS: {count} listening sockets were handed over, the configuration has {len(wanted)} "
            f"({', '.join(wanted)}); correct one or the other"
        )
    order = [Listener(name) for name in names] if set(names) <= set(Listener) else list(wanted)
    if sorted(order) != sorted(wanted):
        raise ConfigError(f"LISTEN_FDNAMES: {':'.join(names)} was handed over, {':'.join(wanted)} is expected")
    found = {}
    for number, name in enumerate(order, start=FIRST_DESCRIPTOR):
        os.set_inheritable(number, False)
        found[name] = socket.socket(fileno=number)
    return found


def check_addresses(found: Mapping[Listener, socket.socket], settings: Settings) -> None:
    """Refuse sockets that listen elsewhere than the configuration says: what is shown and checked is the configuration.

    Raises
    ------
    ConfigError
        Another port; or every interface where the configuration says loopback.
    """
    for name, (host, port) in addresses(settings).items():
        bound_host, bound_port = found[name].getsockname()[:2]
        key = "receive.port" if name is Listener.PLAIN else "receive.tls.port"
        loopback = ("127.0.0.1", "::1", "localhost")
        if port not in (0, bound_port) or (host in loopback and bound_host not in loopback):
            raise ConfigError(
                f"receive.host, {key}: {host}:{port} is configured, the socket that was handed over listens on "
                f"{bound_host}:{bound_port}; change one (`systemctl edit ainode-receiver.socket`)"
            )


def pass_on(listeners: Mapping[Listener, socket.socket], environment: dict[str, str]) -> list[tuple[Any, ...]]:
    """File actions of ``posix_spawn`` that hand the sockets to a child; completes the child's environment."""
    environment["LISTEN_FDS"] = str(len(listeners))
    environment["LISTEN_FDNAMES"] = ":".join(listeners)
    aside: list[tuple[Any, ...]] = []
    placed: list[tuple[Any, ...]] = []
    for number, listener in enumerate(listeners.values()):
        aside.append((os.POSIX_SPAWN_DUP2, listener.fileno(), _ASIDE + number))
        placed.append((os.POSIX_SPAWN_DUP2, _ASIDE + number, FIRST_DESCRIPTOR + number))
        placed.append((os.POSIX_SPAWN_CLOSE, _ASIDE + number))
    return aside + placed


def _reason(error: OSError) -> str:
    """The system's words alone: Python repeats the address in its own."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)
