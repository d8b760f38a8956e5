"""Hands the ledger on as audit messages. The ledger is the queue: while the repository is away, the position stays."""

from __future__ import annotations

import logging
import socket
import threading
import time

from sqlalchemy import Connection, func, select

from models.errors import NodeError
from node.archive.engine import Store
from node.archive.event_kinds import Kind
from node.archive.tables import ledger, ledger_head, ledger_readers
from node.archive.upsert import insert_statement
from node.audit.syslog import send_all, syslog_line
from node.audit.translation import WANTED, Translator
from node.settings import Settings

logger = logging.getLogger(__name__)

READER = "audit"
_PAGE = 500
_PAUSE_SECONDS = 1.0


class Forwarder:
    """Reads the sealed rows in their order, sends what they say, and remembers how far it came.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._away = False

    def run(self, stopping: threading.Event) -> None:
        """Forward until ``stopping`` is set. Whatever fails is tried again."""
        while not stopping.is_set():
            pause = _PAUSE_SECONDS
            try:
                if self.forward():
                    continue
                self._away = False
            except NodeError as error:
                if not self._away:
                    logger.error("audit messages wait in the ledger: %s", error)
                self._away, pause = True, self._settings.audit.retry_seconds
            stopping.wait(pause)

    def forward(self) -> int:
        """Hand on the next page; return how many rows of the ledger it covered.

        Raises
        ------
        NodeError
            The repository or the store is away. Nothing is forgotten.
        """
        with self._store.read() as connection:
            position = self._position(connection)
            through = _end_of_page(connection, position)
            if through == position:
                return 0
            page = (ledger.c.sequence > position) & (ledger.c.sequence <= through) & ledger.c.kind.in_(WANTED)
            rows = connection.execute(select(ledger).where(page).order_by(ledger.c.sequence)).all()
            messages = Translator(self._settings, connection).messages(rows)
        if messages:
            host = socket.gethostname()
            send_all(self._settings.audit, [syslog_line(each.xml(), each.at, host=host) for each in messages])
        with self._store.write() as connection:
            _remember(connection, through)
        return through - position

    def _position(self, connection: Connection) -> int:
        """The last row handed on; where audit is new here, all before the last start of the node is history."""
        found = connection.execute(select(ledger_readers.c.sequence).where(ledger_readers.c.name == READER)).scalar()
        if found is not None:
            return int(found)
        started = select(func.max(ledger.c.sequence)).where(ledger.c.kind == str(Kind.NODE_STARTED))
        last = connection.execute(started).scalar()
        return max(0, int(last or 1) - 1)


def _end_of_page(connection: Connection, position: int) -> int:
    head = connection.execute(select(ledger_head.c.sequence)).scalar_one_or_none() or 0
    return min(head, position + _PAGE)


def _remember(connection: Connection, sequence: int) -> None:
    statement = insert_statement(connection.dialect.name, ledger_readers).values(
        name=READER, sequence=sequence, at=time.time()
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"sequence": statement.excluded.sequence, "at": statement.excluded.at}
        )
    )
