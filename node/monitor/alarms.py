"""Alarms: raised when something becomes wrong, said again now and then, and taken back when it is right again.

They are kept in ``data_dir/run/alarms.json``, so that a restart neither repeats nor forgets any.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from node.monitor.condition import PAGE, Alarm, Condition
from node.status import run_folder

logger = logging.getLogger(__name__)

_FILE = "alarms.json"


class Standing(BaseModel):
    """An alarm that was raised.

    Attributes
    ----------
    raised_at : float
        Seconds since the epoch.
    over_at : float or None
        When it was right again; such an alarm stays until everybody was told.
    told : dict
        Channel → when it was told last that the alarm stands.
    untold : list of str
        Channels that are to be told next: that it stands, or that it is over.
    """

    alarm: Alarm
    subject: str
    words: str
    raised_at: float
    over_at: float | None = None
    told: dict[str, float] = Field(default_factory=dict)
    untold: list[str] = Field(default_factory=list)

    @property
    def key(self) -> str:
        """See :attr:`Condition.key`."""
        return f"{self.alarm}/{self.subject}"

    def message(self, node: str) -> dict[str, Any]:
        """What a channel is told."""
        over = self.over_at is not None
        return {
            "kind": "over" if over else "alarm",
            "node": node,
            "alarm": str(self.alarm),
            "subject": self.subject,
            "words": self.words,
            "since": self.raised_at,
            "over_at": self.over_at,
            "page": f"{PAGE}#{self.alarm}",
        }


class Alarms:
    """All alarms of a node.

    Parameters
    ----------
    data_dir : Path
    channels : sequence of str
        Who is told.
    repeat_seconds : float
        An alarm that stands so long is said again.
    """

    def __init__(self, data_dir: Path, channels: Sequence[str], *, repeat_seconds: float) -> None:
        self._path = run_folder(data_dir) / _FILE
        self._channels = tuple(channels)
        self._repeat_seconds = repeat_seconds
        self._standing = {each.key: each for each in _read(self._path)}

    @property
    def standing(self) -> list[Standing]:
        """Alarms that stand now, the oldest first."""
        return sorted(
            (each for each in self._standing.values() if each.over_at is None), key=lambda each: each.raised_at
        )

    def update(self, conditions: Sequence[Condition], now: float) -> None:
        """Take what is wrong now: raise what is new, end what is right again."""
        wrong = {each.key: each for each in conditions}
        before = self._as_json()
        for key, condition in wrong.items():
            self._raise(key, condition, now)
        for key, standing in list(self._standing.items()):
            if key not in wrong and standing.over_at is None:
                standing.over_at = now
                # Who has not heard of it need not hear that it is over.
                standing.untold = [name for name in standing.told if name in self._channels]
                logger.warning("ALARM OVER %s %s", standing.alarm, standing.subject)
            if standing.over_at is not None and not standing.untold:
                del self._standing[key]
        self._keep(before)

    def due(self) -> list[tuple[Standing, str]]:
        """Whom to tell what, as (alarm, channel)."""
        return [(each, name) for each in self._standing.values() for name in each.untold]

    def was_told(self, standing: Standing, channel: str, now: float) -> None:
        """A channel has heard."""
        before = self._as_json()
        standing.untold = [name for name in standing.untold if name != channel]
        if standing.over_at is None:
            standing.told[channel] = now
        self._keep(before)

    def _raise(self, key: str, condition: Condition, now: float) -> None:
        standing = self._standing.get(key)
        if standing is None or standing.over_at is not None:
            logger.error("ALARM %s %s: %s", condition.alarm, condition.subject, condition.words)
            self._standing[key] = Standing(
                alarm=condition.alarm,
                subject=condition.subject,
                words=condition.words,
                raised_at=now,
                untold=list(self._channels),
            )
            return
        standing.words = condition.words
        again = [name for name, at in standing.told.items() if now - at >= self._repeat_seconds]
        standing.untold += [name for name in again if name in self._channels and name not in standing.untold]

    def _as_json(self) -> str:
        return json.dumps([each.model_dump(mode="json") for each in self._standing.values()])

    def _keep(self, before: str) -> None:
        text = self._as_json()
        if text == before:
            return
        try:
            part = self._path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            # On a full disk alarms are told all the same; a restart would tell them once more.
            logger.warning("alarms cannot be kept: %s", error.strerror)


def standing_alarms(data_dir: Path) -> list[Standing]:
    """Alarms that stand, as the monitor keeps them."""
    return [each for each in _read(run_folder(data_dir) / _FILE) if each.over_at is None]


def _read(path: Path) -> list[Standing]:
    try:
        return [Standing.model_validate(each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []
