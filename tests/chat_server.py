"""An OpenAI-compatible chat server on loopback that keeps every byte it was sent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], str]


class ChatServer(ThreadingHTTPServer):
    """Answers ``/v1/chat/completions`` with what ``reply`` makes of the request.

    Attributes
    ----------
    received : list of bytes
        Request line, headers and body of every request, as they came.
    script : list of str
        What to do with the next requests instead of answering: ``"429"``, ``"500"``, ``"401"``, ``"malformed"``,
        ``"slow"``, ``"held"`` (until whoever asks goes away), ``"drip"``, ``"wrong model"``, ``"cut off"``,
        ``"empty"``, ``"huge"``, ``"redirect"``.
    """

    daemon_threads = True

    def __init__(self, reply: Reply, model: str = "tiny-vlm") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.model = reply, model
        self.received: list[bytes] = []
        self.script: list[str] = []
        self.busy = self.busiest = 0
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Bodies of the requests."""
        return [json.loads(each.split(b"\r\n\r\n", 1)[1]) for each in self.received]


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        head = f"{self.requestline}\r\n{self.headers}".encode("utf-8", "surrogateescape")
        with self.server.guard:
            self.server.received.append(head.rstrip() + b"\r\n\r\n" + body)
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
            what = self.server.script.pop(0) if self.server.script else ""
        try:
            self._answer(what, json.loads(body))
        except (BrokenPipeError, ConnectionResetError):
            return
        finally:
            with self.server.guard:
                self.server.busy -= 1

    def _answer(self, what: str, request: dict[str, Any]) -> None:
        if what == "slow":
            time.sleep(4)
        if what == "held":
            self.connection.settimeout(60)
            self.connection.recv(1)
            raise ConnectionResetError
        if what == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(60):
                self.wfile.write(b"X")
                self.wfile.flush()
                time.sleep(0.05)
        if what.isdigit():
            self._send(int(what), b"{}")
        elif what == "redirect":
            self.send_response(307)
            self.send_header("Location", "http://127.0.0.1:1/v1/chat/completions")
            self.end_headers()
        elif what == "malformed":
            self._send(200, b'{"choices": [{"message"')
        elif what == "huge":
            self._send(200, b" " * 3_000_000)
        else:
            text = "" if what == "empty" else self.server.reply(request)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "length" if what == "cut off" else "stop",
            }
            model = "another-model" if what == "wrong model" else self.server.model
            answer = {"id": "x", "model": model, "choices": [choice], "usage": {"total_tokens": 100}}
            self._send(200, json.dumps(answer).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""


@contextmanager
def chat_server(reply: Reply, model: str = "tiny-vlm") -> Iterator[ChatServer]:
    """Run a server while the context lasts."""
    server = ChatServer(reply, model)
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def words(request: dict[str, Any]) -> str:
    """Everything a request says in words."""
    said = []
    for message in request["messages"]:
        content = message["content"]
        said += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(said)
