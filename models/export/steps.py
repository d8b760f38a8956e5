"""How far an import is: said step by step, as lines of JSON, by the process that converts to the one that waits for it.

Converters say their steps to the logger :data:`NAME`; where nobody listens nothing happens. Importing this imports no torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TextIO

NAME = "models.export.steps"
_MARK = "import_step"


class Kind(StrEnum):
    """What is being done, in the order in which it usually is."""

    READ = "read the checkpoint"
    KEYS = "check its keys"
    CONVERT = "convert"
    COMPARE = "compare with the original"
    ANSWER = "keep a known answer"
    CARD = "write the card"
    WEIGHTS = "make the weights smaller"


_OF_A_GRAPH = (Kind.CONVERT, Kind.COMPARE, Kind.ANSWER)


@dataclass(frozen=True, slots=True)
class Step:
    """A step that has begun.

    Attributes
    ----------
    graph : str
        File name of the graph it is about; empty where it is about all.
    part : str
        What of it: the exporter, or ``2 of 3`` sizes; empty where there are no parts.
    """

    kind: Kind
    graph: str = ""
    part: str = ""

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.graph}: {self.kind}{f' ({self.part})' if self.part else ''}" if self.graph else str(self.kind)


def planned(graphs: int, *, smaller: bool) -> int:
    """Number of steps of an import that makes so many graphs."""
    return 3 + len(_OF_A_GRAPH) * graphs + int(smaller)


class Count:
    """How many steps have begun, of how many.

    Parameters
    ----------
    total : int
        As :func:`planned`. Where more come than were known beforehand it grows.

    Attributes
    ----------
    begun, total : int
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._seen: set[tuple[Kind, str]] = set()

    def add(self, step: Step) -> None:
        """Count a step; its parts, and another try of it, are the same step."""
        self._seen.add((step.kind, step.graph))
        self.total = max(self.total, self.begun)

    @property
    def begun(self) -> int:
        """Steps that have begun, the present one among them."""
        return len(self._seen)


def say(kind: Kind, graph: str = "", part: str = "") -> None:
    """A step begins."""
    logging.getLogger(NAME).info("%s", kind, extra={_MARK: Step(kind, graph, part)})


class _Lines(logging.Handler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        step = getattr(record, _MARK, None)
        if isinstance(step, Step):
            print(json.dumps({_MARK: asdict(step)}), file=self._stream, flush=True)


@contextmanager
def written_to(stream: TextIO) -> Iterator[None]:
    """Write each step that begins inside the block, in this process, as a line."""
    logger, lines = logging.getLogger(NAME), _Lines(stream)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
        logger.propagate = propagate


def read(line: str) -> Step | None:
    """The step that a line tells of; None where it is anything else."""
    try:
        told = json.loads(line)[_MARK]
        return Step(Kind(told["kind"]), str(told["graph"])[:80], str(told["part"])[:80])
    except (ValueError, KeyError, TypeError):
        return None


Hears = Callable[[Step], None]
