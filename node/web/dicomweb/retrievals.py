"""Who has retrieved what of which study by DICOMweb: one row of the ledger for many requests.

A viewer asks for a study in hundreds of requests. The first of somebody for a study is on record before it is answered; what
the same one retrieves of the same study in the minutes after it is counted, and recorded in one row when they are over.
A process that is killed loses such a count, never that somebody was there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from node.archive import ledger
from node.archive.engine import Store
from node.errors import StoreUnavailable
from node.web.dicomweb.holdings import Holding
from node.web.permission import Person

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0
"""How long requests of one and the same are counted together."""

_Key = tuple[tuple[str, str], ...]


@dataclass
class _Count:
    """What somebody retrieved of a study, and has not been recorded."""

    facts: Mapping[str, Any]
    began: float
    requests: int = 0
    series: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)
    objects: bool = False

    def add(self, held: Sequence[Holding], *, objects: bool) -> None:
        self.requests += 1
        self.series |= {each.series_uid for each in held}
        self.instances |= {each.sop_instance_uid for each in held}
        self.objects |= objects


class Retrievals:
    """The requests of one application.

    Parameters
    ----------
    store : Store
    window_seconds : float
        How long requests are counted together.
    clock : callable
        Gives seconds since the epoch.
    """

    def __init__(
        self, store: Store, window_seconds: float = WINDOW_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[_Key, _Count] = {}
        self._timer: threading.Timer | None = None

    def note(self, request: Request, held: Sequence[Holding], *, objects: bool) -> None:
        """Take a request into account, before it is answered.

        Parameters
        ----------
        held : sequence of Holding
            What is given out; all of one study.
        objects : bool
            Whole objects, frames or bulk data, not metadata or pictures made of them.

        Raises
        ------
        StoreUnavailable
            The first request of somebody for a study cannot be recorded: it is not answered.
        """
        who = _who(request)
        facts = {"study": held[0].study_uid, **who}
        key = tuple(sorted((name, str(value)) for name, value in facts.items()))
        self.record_over()
        with self._lock:
            if (count := self._counts.get(key)) is not None:
                count.add(held, objects=objects)
                return
            self._counts[key] = _Count(facts, self._clock())
            self._wind_up()
        first = _Count(facts, self._clock())
        first.add(held, objects=objects)
        try:
            self._record([first])
        except StoreUnavailable:
            with self._lock:
                self._counts.pop(key, None)
            raise

    def record_over(self) -> None:
        """Record the counts whose time is over."""
        self._take(lambda count: self._clock() - count.began >= self._window)

    def close(self) -> None:
        """Record every count."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._take(lambda count: True)

    def _take(self, is_over: Callable[[_Count], bool]) -> None:
        with self._lock:
            over = {key: count for key, count in self._counts.items() if is_over(count)}
            for key in over:
                del self._counts[key]
        if counted := [count for count in over.values() if count.requests]:
            try:
                self._record(counted)
            except StoreUnavailable:
                logger.error("counts of %d retrieval(s) could not be recorded", len(counted))

    def _record(self, counts: Sequence[_Count]) -> None:
        with self._store.write() as connection:
            for count in counts:
                ledger.record(
                    connection,
                    self._clock(),
                    ledger.Kind.PERSON_RETRIEVED,
                    **count.facts,
                    requests=count.requests,
                    series=len(count.series),
                    instances=len(count.instances),
                    objects=count.objects,
                    since=count.began,
                )

    def _wind_up(self) -> None:
        """See to it that counts are recorded though nobody comes any more. The lock is held."""
        if self._timer is None:
            self._timer = threading.Timer(self._window + 0.1, self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        self.record_over()
        with self._lock:
            self._timer = None
            if self._counts:
                self._wind_up()


def _who(request: Request) -> dict[str, Any]:
    """The person, or the address where the service is open."""
    person: Person | None = getattr(request.state, "person", None)
    if person is not None:
        return person.actor.facts()
    address = request.client.host if request.client else ""
    return {"by": address or "unknown", "role": "", "via": "dicomweb", "address": address}
