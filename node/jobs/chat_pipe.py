"""The chat port of a model host: wishes go to the dispatcher over the pipe that jobs come through."""

from __future__ import annotations

import base64
import socket
from collections.abc import Mapping, Sequence

from models.chat import ChatAnswer, ChatRequest, Origin, TextPart
from models.remote_errors import PictureNotReleasable, by_code
from node.jobs import wire


class ChatPipe:
    """See :class:`models.chat.Chat`.

    Parameters
    ----------
    connection : socket.socket
        To the dispatcher, which answers one wish at a time while a run goes on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._origins: dict[str, tuple[Origin, ...]] = {}

    def look_at(self, origins: Mapping[str, Sequence[Origin]]) -> None:
        """See :meth:`models.chat.Chat.look_at`."""
        self._origins = {role: tuple(each) for role, each in origins.items()}

    def complete(self, request: ChatRequest) -> ChatAnswer:
        """See :meth:`models.chat.Chat.complete`."""
        parts = []
        for part in request.parts:
            if isinstance(part, TextPart):
                parts.append({"text": part.text, "free": part.free})
                continue
            origins = self._origins.get(part.role, ())
            if not 0 <= part.slice_index < len(origins):
                raise PictureNotReleasable("a picture whose image is not known never leaves")
            uid = origins[part.slice_index].sop_instance_uid
            parts.append({"png": base64.b64encode(part.png).decode("ascii"), "sop_instance_uid": uid})
        wire.send(
            self.connection,
            {
                "kind": "chat",
                "endpoint": request.endpoint,
                "system": request.system,
                "parts": parts,
                "maximum_tokens": request.maximum_tokens,
                "temperature": request.temperature,
                "seed": request.seed,
            },
        )
        reply = wire.receive(self.connection)
        if reply is None:
            raise wire.WireBroken("the dispatcher has gone")
        if code := reply.get("code"):
            raise by_code(str(code), str(reply.get("message", "")))
        return ChatAnswer(str(reply["text"]), str(reply["model"]), bool(reply["finished"]))
