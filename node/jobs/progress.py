"""How far the texts of running jobs are: one small file a job, written by the executor that hears of it.

Not in the database, where it would be a write every half second for something nobody needs afterwards; on the file system
of ``data_dir``, which every machine of a cluster shares.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from node import log

_LOG = log.logger("progress")
_LONGEST_NAME = 128
_FORGOTTEN_SECONDS = 24 * 3600.0
_FRESH_SECONDS = 120.0
"""A model that takes longer for one token would not end its text before any deadline."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One text that is being made.

    Attributes
    ----------
    tokens, limit : int
        So far, and at most.
    tokens_per_second : float or None
        Since its first token.
    at : float
        When it was said, seconds since the epoch.
    """

    model: str
    tokens: int
    limit: int
    tokens_per_second: float | None
    at: float

    def words(self) -> str:
        """``12 of 256 tokens, 8.1/s``."""
        rate = "" if self.tokens_per_second is None else f", {self.tokens_per_second:.1f}/s"
        return f"{self.tokens} of {self.limit} tokens{rate}"

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class ProgressBoard:
    """The files below ``data_dir/run/progress``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "run" / "progress"
        self._usable = True

    def note(self, job: int, told: Mapping[str, Any]) -> None:
        """Write down what a child says. Only numbers and the model's name are taken over."""
        rate = told.get("tokens_per_second")
        found = Progress(
            model=str(told["model"])[:_LONGEST_NAME],
            tokens=int(told["tokens"]),
            limit=int(told["limit"]),
            tokens_per_second=None if rate is None else float(rate),
            at=time.time(),
        )
        if not self._usable:
            return
        path = self._folder / f"{job}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found.facts()), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            # A run does not fail because nobody can see how far it is.
            self._usable = False
            log.say(_LOG, 30, "progress of texts cannot be shown", error=str(error))

    def clear(self, job: int) -> None:
        """The run has ended; also forget what runs left behind that were killed."""
        with suppress(OSError):
            (self._folder / f"{job}.json").unlink(missing_ok=True)
            for left in self._folder.glob("*"):
                if time.time() - left.stat().st_mtime > _FORGOTTEN_SECONDS:
                    left.unlink(missing_ok=True)

    def of(self, job: int, *, state: str, started_at: float | None) -> Progress | None:
        """How far a job is; None unless it runs and has said so since it started."""
        if state != "running":
            return None
        found = _read(self._folder / f"{job}.json")
        return found if found is not None and found.at >= (started_at or 0.0) else None

    def all(self) -> dict[int, Progress]:
        """Every job that has said something lately, for who does not know which ones run."""
        since = time.time() - _FRESH_SECONDS
        found = {int(path.stem): _read(path) for path in self._folder.glob("*.json") if path.stem.isdigit()}
        return {job: each for job, each in sorted(found.items()) if each is not None and each.at >= since}


def _read(path: Path) -> Progress | None:
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # it has just ended, or another version wrote it
