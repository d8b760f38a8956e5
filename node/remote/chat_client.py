"""The wire: an OpenAI-compatible ``/chat/completions`` service over HTTP(S), one call at a time.

Proven bytes go out as they are; nothing else of the node does. Passing failures are tried again within the deadline, and
only those.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from models.errors import Transient
from models.remote_errors import AnswerUnusable, KeyUnusable, RemoteRefusal, RemoteUnavailable, WrongModel
from node.dicom.passcodes import read_passcode
from node.dicomweb.web_client import WebClient, WebPeer, refusal
from node.errors import PeerError, PeerNotTrusted, UsersUnusable, WebNotAuthorised
from node.settings import EndpointSection

_PATH = "/chat/completions"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer. ``tokens`` is what the service says the call cost, prompt and answer."""

    text: str
    model: str
    finished: bool
    tokens: int


class ChatClient:
    """Calls one endpoint.

    Parameters
    ----------
    name : str
        Of the endpoint, for messages.
    endpoint : EndpointSection

    Attributes
    ----------
    spent : int
        Tokens the answers have cost so far, those that were thrown away included.
    """

    def __init__(self, name: str, endpoint: EndpointSection) -> None:
        self.spent = 0
        self._name = name
        self._endpoint = endpoint
        self._cut = threading.Event()
        self._open: WebClient | None = None
        self._pause = 0.0

    def cut(self) -> None:
        """End the call at once, from another thread; one that has not begun sends nothing."""
        self._cut.set()
        if (client := self._open) is not None:
            client.end()

    def check_files(self) -> None:
        """Read key and certificates, and send nothing.

        Raises
        ------
        KeyUnusable, PeerNotTrusted
            One of them cannot be used.
        """
        self._key()
        WebClient(WebPeer(url=self._endpoint.url, tls=self._endpoint.tls)).close()

    def send(self, body: bytes, before_each: Callable[[], None]) -> Completion:
        """Send a request and return the answer.

        Parameters
        ----------
        body : bytes
            JSON, proven.
        before_each : callable
            Called before each attempt; what it raises ends the call.

        Raises
        ------
        RemoteUnavailable
            No answer within the deadline or the attempts.
        RemoteRefusal, AnswerUnusable, WrongModel, KeyUnusable
            It would be no better the next time.
        """
        endpoint, until = self._endpoint, time.monotonic() + self._endpoint.deadline_seconds
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "ainode",
            **self._key(),
        }
        last = "nothing was tried"
        for attempt in range(1, endpoint.attempts + 1):
            if attempt > 1:
                self._cut.wait(min(self._pause, max(0.0, until - time.monotonic())))
            if self._cut.is_set() or time.monotonic() >= until:
                break
            before_each()
            try:
                return self._once(body, headers, until)
            except PeerError as error:
                # Another try would show the same certificate or key.
                final = isinstance(error, WebNotAuthorised | PeerNotTrusted) or not isinstance(error, Transient)
                if final:
                    raise RemoteRefusal(f"endpoint {self._name}: {_status(error)}") from error
                last, after = _status(error), error.detail.get("retry_after", 0.0)
                self._pause = max(endpoint.retry_seconds * 2 ** (attempt - 1), after)
        else:
            raise RemoteUnavailable(f"endpoint {self._name}: {endpoint.attempts} attempt(s), last: {last}")
        raise RemoteUnavailable(f"endpoint {self._name}: stopped at its time limit, last: {last}")

    def _key(self) -> dict[str, str]:
        if self._endpoint.key_file is None:
            return {}
        try:
            key = read_passcode(self._endpoint.key_file).decode("ascii").strip()
        except (UsersUnusable, UnicodeDecodeError) as error:
            raise KeyUnusable(f"endpoint {self._name}: key_file cannot be read, or its first line is no key") from error
        return {"Authorization": f"Bearer {key}"}

    def _once(self, body: bytes, headers: dict[str, str], until: float) -> Completion:
        endpoint = self._endpoint
        remaining = max(0.05, until - time.monotonic())
        peer = WebPeer(
            url=endpoint.url.rstrip("/"),
            connect_timeout_seconds=min(endpoint.connect_timeout_seconds, remaining),
            response_timeout_seconds=remaining,
            tls=endpoint.tls,
        )
        with WebClient(peer) as client:
            self._open = client
            if self._cut.is_set():
                client.end()
            # A service that sends a byte now and then would keep every other limit.
            watch = threading.Timer(remaining, client.end)
            watch.daemon = True
            watch.start()
            try:
                with client.stream("POST", _PATH, content=body, headers=headers) as response:
                    content = self._content(response)
                    if response.status_code >= 300:
                        raise refusal(peer, response, "chat")
            finally:
                watch.cancel()
                self._open = None
        return self._read(content)

    def _content(self, response: Any) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > self._endpoint.maximum_answer_bytes:
                raise AnswerUnusable(f"endpoint {self._name}: the answer is larger than maximum_answer_bytes")
        return bytes(content)

    def _read(self, content: bytes) -> Completion:
        # A service that does not count would make the limit void: four bytes are about a token.
        tokens = len(content) // 4 + 1
        try:
            document = json.loads(content)
            usage = document.get("usage") or {}
            tokens = int(usage.get("total_tokens") or 0) or tokens
            choice = document["choices"][0]
            text, model = choice["message"]["content"], document["model"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise AnswerUnusable(
                f"endpoint {self._name}: the answer is no chat completion ({type(error).__name__})"
            ) from error
        finally:
            self.spent += max(tokens, 0)
        if not isinstance(text, str) or not isinstance(model, str):
            raise AnswerUnusable(f"endpoint {self._name}: the answer holds no text or no model name")
        # It stands in the draft as who wrote it: a name, where a sentence could claim anything.
        if not _MODEL_NAME.fullmatch(model):
            raise AnswerUnusable(f"endpoint {self._name}: what answered gives no name of a model")
        wanted = self._endpoint.answered_by or [self._endpoint.model]
        if not any(fnmatchcase(model, pattern) for pattern in wanted):
            raise WrongModel(f"endpoint {self._name}: {model!r} answered, expected was {' or '.join(wanted)}")
        return Completion(text, model, choice.get("finish_reason") != "length", tokens)


def _status(error: PeerError) -> str:
    status = error.detail.get("http_status")
    return f"HTTP {status}" if status else type(error).__name__
