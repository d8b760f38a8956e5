"""What a process does at its start, with signals, and at its end."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from node.process import collector_at_rest


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_signal_in_the_midst_of_waiting_is_not_lost() -> None:
    """The worst moment: the main thread holds the lock of the very event that is to be set."""
    done = run(
        "import os, signal, sys, time\n"
        "from node.process import stop_event\n"
        "event = stop_event()\n"
        "with event._cond:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "sys.exit(0 if event.wait(5) else 3)\n"
    )
    assert done.returncode == 0, done.stderr


def test_leaving_loses_no_output() -> None:
    done = run(
        "import logging\nfrom node import log\nfrom node.process import leave\n"
        "log.set_up('test')\nprint('said', end='')\nlog.logger('x').warning('logged')\nleave()\n"
    )
    assert (done.returncode, done.stdout) == (0, "said") and "logged" in done.stderr


def test_the_collector_rests_while_modules_are_imported() -> None:
    assert gc.isenabled()
    with collector_at_rest():
        with collector_at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer block goes on"
    assert gc.isenabled()
    with pytest.raises(ImportError), collector_at_rest():
        raise ImportError
    assert gc.isenabled()


def test_a_process_imports_what_it_needs() -> None:
    """Each of these is a quarter of a second of every start, of every process of a node."""
    done = run(
        "import sys, node.schedule, node.dicom.storage_scp, node.delivery.sender, node.jobs.dispatcher, node.archive.engine\n"
        "print({'scipy', 'alembic', 'pydicom.sr', 'highdicom'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stdout + done.stderr
