"""Log lines are one line each and hold no patient, whatever a library says."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from node import log
from node.errors import SpoolFull

NAME = "SECRET^NAME"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, show, out = logging.getLogger(), warnings.showwarning, io.StringIO()
    handlers, level = root.handlers[:], root.level
    log.set_up("test", "debug")
    assert isinstance(root.handlers[0], logging.StreamHandler)
    root.handlers[0].setStream(out)
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    warnings.showwarning = show


def test_a_line_for_each_record(stream: io.StringIO) -> None:
    log.say(log.logger("x"), logging.INFO, "two\nlines", study="1.2.3", note='with "quotes"')
    assert stream.getvalue().count("\n") == 1
    assert "study=1.2.3" in stream.getvalue()


def test_tracebacks_name_places_and_no_values(stream: io.StringIO) -> None:
    try:
        try:
            raise ValueError(f"cannot decode {NAME}")
        except ValueError as error:
            raise SpoolFull("3 bytes free") from error
    except SpoolFull:
        log.logger("x").exception("failed")
    text = stream.getvalue()
    assert NAME not in text
    assert "SPO-001: 3 bytes free" in text and "ValueError" in text and "test_log.py" in text


def test_library_warnings_are_not_quoted(stream: io.StringIO) -> None:
    warnings.warn(f"Invalid value {NAME}", UserWarning, stacklevel=1)
    logging.getLogger("pydicom").error("bad value %s", NAME)
    assert NAME not in stream.getvalue()
    assert "UserWarning" in stream.getvalue()


def test_a_library_imported_later_quotes_nothing_either() -> None:
    """pydicom sets its logger's level while it is imported, which in a process of the node is after the set-up."""
    script = (
        "from node import log\nlog.set_up('test')\n"
        "from pydicom.dataset import Dataset\nfrom pydicom.valuerep import IS\nimport logging\n"
        f"logging.getLogger('pydicom').warning('bad value %s', {NAME!r})\n"
        f"logging.getLogger('pydicom.filereader').error('bad value %s', {NAME!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert NAME not in done.stderr


def test_a_destination_that_is_down_is_not_told_three_times(stream: io.StringIO) -> None:
    logging.getLogger("pynetdicom.transport").error("TCP Initialisation Error")
    logging.getLogger("pynetdicom.association").error("a handler failed")
    assert "TCP Initialisation" not in stream.getvalue() and "a handler failed" in stream.getvalue()
