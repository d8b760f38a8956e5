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
    arrival: Arrival
    opened: Opened | None
    is_done: bool = False
    recorded: Recorded = Recorded.NEW
    error: Exception | None = None


class GroupCommit:
    """Enters arrivals, and returns when they are entered. Safe to share between threads.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = threading.Condition()
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
        mine = _Waiting(arrival, opened)
        with self._changed:
            self._waiting.append(mine)
        while group := self._turn(mine):
            try:
                self._enter(group)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
        if mine.error is not None:
            raise mine.error
        return mine.recorded

    def _turn(self, mine: _Waiting) -> list[_Waiting]:
        """Wait until ``mine`` is entered, then empty; or until it is this thread's turn, then what is to be entered."""
        with self._changed:
            self._changed.wait_for(lambda: mine.is_done or not self._busy)
            if mine.is_done:
                return []
            self._busy = True
            group, self._waiting = self._waiting[:_LARGEST_GROUP], self._waiting[_LARGEST_GROUP:]
            return group

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
