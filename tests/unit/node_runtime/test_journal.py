"""Records reach the journal with their facts as fields, and standard error where the journal does not take them."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import log
from node.journal import JournalHandler, is_connected, priority


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "journal"))
        made.settimeout(5)
        yield made


@pytest.fixture
def handler(tmp_path: Path, journal: socket.socket) -> Iterator[JournalHandler]:
    made = JournalHandler("receiver", "facts", tmp_path / "journal")
    made.setFormatter(log.JournalFormatter("receiver"))
    yield made
    made.close()


def record(event: str, level: int = logging.INFO, **facts: object) -> logging.LogRecord:
    made = logging.LogRecord("node.x", level, "x.py", 1, event, (), None)
    made.facts = facts
    return made


def fields(datagram: bytes) -> dict[str, str]:
    """As the journal reads them."""
    found, at = {}, 0
    while at < len(datagram):
        end = datagram.index(b"\n", at)
        name, equals, value = datagram[at:end].partition(b"=")
        at = end + 1
        if not equals:
            (length,) = struct.unpack("<Q", datagram[at : at + 8])
            value = datagram[at + 8 : at + 8 + length]
            at += 8 + length + 1
        found[name.decode()] = value.decode()
    return found


def test_facts_are_fields(journal: socket.socket, handler: JournalHandler) -> None:
    handler.emit(record("run starts", job=7, study="1.2.3", reason="two\nlines", **{"odd key!": "x"}))
    assert fields(journal.recv(65536)) == {
        "MESSAGE": 'receiver: run starts job=7 study=1.2.3 reason="two\\nlines" odd key!=x',
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "ainode",
        "AINODE_PROCESS": "receiver",
        "AINODE_EVENT": "run starts",
        "AINODE_JOB": "7",
        "AINODE_STUDY": "1.2.3",
        "AINODE_REASON": "two\nlines",
        "AINODE_ODD_KEY_": "x",
    }


def test_what_the_journal_does_not_take_goes_to_standard_error(journal: socket.socket, handler: JournalHandler) -> None:
    stream = io.StringIO()
    handler.setStream(stream)
    handler.emit(record("long", detail="x" * 1_000_000))
    journal.close()
    handler.emit(record("after the journal's end", job=8))
    assert stream.getvalue().count("\n") == 2 and "after the journal's end job=8" in stream.getvalue()


@pytest.mark.parametrize(("level", "number"), [(50, 2), (40, 3), (30, 4), (20, 6), (10, 7)])
def test_priorities(level: int, number: int) -> None:
    assert priority(level) == number


def test_connected_only_where_standard_error_is_the_stream_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, os.fdopen(os.dup(ours.fileno()), "wb") as stream:
        state = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
        assert is_connected(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino + 1}")
        assert not is_connected(stream)
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_connected(stream)
