"""How a model host that is shut in has a program started: it asks the dispatcher over the pipe that jobs come through."""

from __future__ import annotations

import socket

from models.program_errors import by_code
from node.external.running import ProgramRun, Started
from node.jobs import wire
from node.settings.external import ExternalSection


class ProgramPipe:
    """See :class:`node.external.running.Runner`.

    Parameters
    ----------
    connection : socket.socket
        To the dispatcher, which answers one wish at a time while a run goes on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __call__(self, run: ProgramRun, site: ExternalSection) -> Started:
        """What the site allows is looked up by the dispatcher, not taken from here."""
        wire.send(self._connection, {"kind": "program", "run": run.model_dump(mode="json")})
        reply = wire.receive(self._connection)
        if reply is None:
            raise wire.WireBroken("the dispatcher has gone")
        if code := reply.get("code"):
            raise by_code(str(code), str(reply.get("message", "")))
        return Started(dict(reply["provenance"]), str(reply["isolation"]))
