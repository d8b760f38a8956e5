"""Structured log lines: ``time=… level=… process=… event="…" key=value``, one line for each record, on standard error.

Where standard error is the systemd journal, the facts become fields of the journal (:mod:`node.journal`).

Identifiers of studies, objects and jobs may be logged. Names, ids and birth dates of patients never.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.errors import NodeError
from node import journal

ROOT = "node"
_FACTS = "facts"
_QUIET_LIBRARIES = ("pynetdicom", "apscheduler", "alembic", "sqlalchemy")
# Says of every destination that is down, twice and without naming it, what we say ourselves.
_SILENT = "pynetdicom.transport"
# Their messages and warnings quote the values of elements, a patient's name among them.
_QUOTING_LIBRARIES = ("pydicom", "highdicom")


class KeyValueFormatter(logging.Formatter):
    """One line a record, whatever the values hold."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Lay the record out as key=value pairs."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs: list[tuple[str, Any]] = [
            ("time", f"{moment}.{int(record.msecs):03d}Z"),
            ("level", record.levelname.lower()),
            ("process", self._process),
            ("event", record.getMessage()),
        ]
        return _laid_out([*pairs, *_facts_of(record)])


class JournalFormatter(KeyValueFormatter):
    """The same without time and level, which the journal has."""

    def format(self, record: logging.LogRecord) -> str:
        """Event first, then the facts."""
        return " ".join(filter(None, [f"{self._process}: {record.getMessage()}", _laid_out(_facts_of(record))]))


def set_up(process: str, level: str = "info") -> None:
    """Log this process's records to standard error. Call once, at the process's outermost frame."""
    handler: logging.Handler = logging.StreamHandler()
    formatter = KeyValueFormatter(f"{process}[{os.getpid()}]")
    if journal.is_connected():
        handler, formatter = journal.JournalHandler(process, _FACTS), JournalFormatter(process)
    handler.addFilter(_from_no_quoting_library)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(_SILENT).setLevel(logging.CRITICAL)
    warnings.showwarning = _warned


def logger(room: str) -> logging.Logger:
    """The logger of one room of the node."""
    return logging.getLogger(f"{ROOT}.{room}")


def say(log: logging.Logger, level: int, event: str, **facts: Any) -> None:
    """Log an event with its facts (study, job, destination …)."""
    log.log(level, event, extra={_FACTS: facts})


def _from_no_quoting_library(record: logging.LogRecord) -> bool:
    """Filter of our handler. A level on the library's logger would not do: pydicom sets its own when it is imported."""
    return record.name.split(".")[0] not in _QUOTING_LIBRARIES


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Take the place of :func:`warnings.showwarning`: says where and which kind, never what."""
    logger("library").debug("%s at %s:%d", category.__name__, Path(filename).name, lineno)


def _without_content(error: BaseException | None) -> str:
    """Where an error came from and went through. Only our own errors' messages: a library's may quote a patient's name."""
    parts = []
    while error is not None:
        frames = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
        said = f" ({error})" if isinstance(error, NodeError) else ""
        parts.append(f"{type(error).__name__}{said} in {' > '.join(frames) or 'an unknown place'}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "; caused by ".join(parts)


def _facts_of(record: logging.LogRecord) -> list[tuple[str, Any]]:
    facts = list(getattr(record, _FACTS, {}).items())
    if record.exc_info and record.exc_info[0]:
        facts.append(("traceback", _without_content(record.exc_info[1])))
    return facts


def _laid_out(pairs: Iterable[tuple[str, Any]]) -> str:
    return " ".join(f"{key}={_value(value)}" for key, value in pairs)


def _value(value: Any) -> str:
    text = str(value)
    if text and all(each.isalnum() or each in "._:/+-*@,%[]" for each in text) and text.isascii():
        return text
    return json.dumps(text, ensure_ascii=False)
