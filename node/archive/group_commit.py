"""Mode ``instance``: every instance is on the disk before it is acknowledged, and several share one transaction.

Each association syncs its file by itself. Whoever comes to the index first enters what all have brought by then, and
the others wait for it; so one commit, which waits for the disk, serves as many associations as there are. A single
association has its own, in its own thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from models.errors import NodeError
from node.archive.engine import Store
from node.archive.entry import Opened, enter
from node.archive.instance_index import Arrival, Recorded
from node.errors import StoreUnavailable

_LARGEST_GROUP = 64


@dataclass(slots=True, eq=False)
class _Waiting:
    """One that waits. ``news`` is locked until it is entered, or it is its turn to enter the others."""

    arrival: Arrival
    opened: Opened | None
    news: threading.Lock
    is_done: bool = False
    recorded: Recorded = Recorded.NEW
    error: Exception | None = None


class GroupCommit:
    """Enters arrivals, and returns when they are entered. Safe to share between threads.

    Nobody is woken who has nothing to do: each waits at a lock of its own.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._busy = False

    def add(self, arrival: Arrival, opened: Opened | None) -> Recorded:
        """Enter a file that is in the spool and synced; return what it was to the index.

        Parameters
        ----------
        opened : Opened or None
            The association, where this is the first that it brings.

        Raises
        ------
        ObjectRejected, StoreUnavailable
            It is not entered.
        """
        mine = _Waiting(arrival, opened, threading.Lock())
        mine.news.acquire()
        with self._guard:
            self._waiting.append(mine)
            my_turn, self._busy = not self._busy, True
        if not my_turn:
            mine.news.acquire()
        if not mine.is_done:
            self._take_turn(mine)
        if mine.error is not None:
            raise mine.error
        return mine.recorded

    def _take_turn(self, mine: _Waiting) -> None:
        """Enter those that wait, ``mine`` first; then it is the turn of whoever has come meanwhile."""
        with self._guard:
            group, self._waiting = self._waiting[:_LARGEST_GROUP], self._waiting[_LARGEST_GROUP:]
        try:
            self._enter(group)
        finally:
            for each in group:
                if each is not mine:
                    each.news.release()
            self._hand_on()

    def _hand_on(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting[0].news.release()
            else:
                self._busy = False

    def _enter(self, group: Sequence[_Waiting]) -> None:
        try:
            recorded = enter(
                self._store, [each.arrival for each in group], [each.opened for each in group if each.opened]
            )
            for each, what in zip(group, recorded, strict=True):
                each.recorded = what
        except (NodeError, SQLAlchemyError, sqlite3.Error) as error:
            if len(group) > 1 and not isinstance(error, StoreUnavailable):
                # One of them cannot be entered: the others shall not fail with it.
                for each in group:
                    self._enter([each])
                return
            for each in group:
                each.error = error
        except BaseException:
            for each in group:
                each.error = StoreUnavailable("the entry was broken off")
            raise
        finally:
            for each in group:
                each.is_done = True
