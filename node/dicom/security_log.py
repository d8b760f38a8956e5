"""Who was not let in: a line in the log each time, and a row in the ledger that a port scan cannot multiply."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from node.archive import ledger
from node.archive.engine import Store
from node.errors import StoreUnavailable

logger = logging.getLogger(__name__)

_ROW_SECONDS = 60.0
_REMEMBERED = 1024


class SecurityLog:
    """Records refusals; one row a minute for each address and reason.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._written: dict[tuple[str, str], tuple[float, int]] = {}

    def refused(self, kind: ledger.Kind, *, reason: str, address: str, **facts: Any) -> None:
        """Note a refusal. Neither reason nor facts hold anything of a patient.

        Parameters
        ----------
        kind : ledger.Kind
        reason : str
            One of a fixed list.
        address : str
            Numeric address of the peer.
        """
        told = "".join(f", {name.replace('_', ' ')} {value}" for name, value in facts.items())
        logger.warning("%s: %s from %s%s", kind, reason, address, told)
        key = (address, reason)
        now = time.time()
        with self._guard:
            last, suppressed = self._written.get(key, (0.0, 0))
            due = now - last >= _ROW_SECONDS
            if len(self._written) >= _REMEMBERED:
                self._written.clear()
            self._written[key] = (now, 0) if due else (last, suppressed + 1)
        if due:
            self.note(kind, reason=reason, address=address, **facts, suppressed=suppressed)

    def note(self, kind: ledger.Kind, **facts: Any) -> None:
        """Write a row; where the database is not there, the log has to do."""
        try:
            with self._store.write() as connection:
                ledger.record(connection, time.time(), kind, **facts)
        except StoreUnavailable as error:
            logger.error("%s could not be recorded: %s", kind, error)
