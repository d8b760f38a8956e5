"""The site's reports for a model host: asked for over the pipe that jobs come through, read by the dispatcher."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from models.chains.passages import Passage
from node.jobs import wire


class CorpusPipe:
    """See :class:`models.chains.passages.Corpus`.

    Parameters
    ----------
    connection : socket.socket
        To the dispatcher.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def similar(self, text: str, language: str, count: int) -> Sequence[Passage]:
        """See :meth:`models.chains.passages.Corpus.similar`."""
        wire.send(self._connection, {"kind": "similar", "text": text, "language": language, "count": count})
        reply = wire.receive(self._connection)
        if reply is None:
            raise wire.WireBroken("the dispatcher has gone")
        return [Passage(int(each["number"]), str(each["text"]), float(each["score"])) for each in reply["passages"]]
