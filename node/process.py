"""What every process of the node does with the operating system: die with its parent, stop on a signal, leave quickly."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "AINODE_PARENT_PID"
# Of those made and not gone since the last collection.
_COLLECTED_OBJECTS = 10_000


def die_with_parent(parent_pid: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere nothing happens).

    Parameters
    ----------
    parent_pid : int or None
        Who started us; None takes it from the environment variable ``AINODE_PARENT_PID`` and does nothing without it.
    """
    if parent_pid is None:
        parent_pid = int(os.environ.get(PARENT_VARIABLE, "0")) or None
    if parent_pid is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # The parent died before the request was made: nobody would ever stop us.
        os._exit(1)


def forbid_core_dumps() -> None:
    """Keep patient data out of core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Hold the cycle collector off inside the block: what is imported stays, and looking it through is a fifth of a start."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def spare_the_collector() -> None:
    """Have Python's cycle collector leave alone what is there now, modules above all, and look less often at the rest.

    For a receiver: what an instance makes holds no cycles, yet lives until its row is written, and set off a collection
    every few images. Associations do make cycles, of some thousand objects each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_OBJECTS, 10, 10)


def stop_event() -> threading.Event:
    """An event that SIGTERM and SIGINT set. Main thread only, once in a process.

    A thread sets it, not the handler: a handler runs in the midst of whatever the main thread does, and where that is
    ``event.wait()`` it would wait for a lock that its own thread holds.
    """
    event = threading.Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def await_signal() -> None:
        os.read(reader, 1)
        event.set()

    def nothing(signum: int, frame: FrameType | None) -> None:
        """Python writes the signal's number to the pipe before it comes here."""

    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, nothing)
    signal.signal(signal.SIGINT, nothing)
    threading.Thread(target=await_signal, name="signals", daemon=True).start()
    return event


def leave() -> NoReturn:
    """End this process with exit code 0, when everything that must be closed is closed.

    The interpreter's own tear-down of some thousand modules takes a third of a second of CPU time in each process of
    the node; all of them at once, on a busy machine, made a stop last many seconds.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
