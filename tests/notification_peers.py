"""Those who are told, on loopback: an MLLP listener, a FHIR server, a webhook and a mail server, each with its faults."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.observation import Observation

from tests.dicomweb_peer import answer
from tests.peers import free_port
from tests.tls_certificates import Certificate


@dataclass
class MllpListener:
    """Takes HL7 messages; an idempotent receiver, as MSH-10 allows one to be.

    Attributes
    ----------
    script : list of str
        What to do with the next messages: an MSA-1 code, with ``/CODE`` for ERR-3; ``drop`` processes and closes without
        answer; ``late`` answers after the sender has given up; ``stale`` answers for another message first. Then ``AA``.
    certificate : Certificate or None
        TLS that asks for a certificate of the same authority.
    received, processed : list of str, dict
        MSH-10 of everything that came, and MSH-10 → message of what was accepted, each once.
    """

    script: list[str] = field(default_factory=list)
    certificate: Certificate | None = None
    late_seconds: float = 1.5
    received: list[str] = field(default_factory=list)
    processed: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    raw: Counter[bytes] = field(default_factory=Counter)
    port: int = 0

    @contextmanager
    def running(self) -> Iterator[MllpListener]:
        """Listen until the block ends."""
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(0.1)
        self.port = server.getsockname()[1]
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join(5)
            server.close()

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self.certificate is None:
            return connection
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.certificate.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        return context.wrap_socket(connection, server_side=True)

    def _serve(self, plain: socket.socket) -> None:
        with self._secured(plain) as connection:
            connection.settimeout(10)
            data = b""
            while b"\x1c\r" not in data:
                chunk = connection.recv(65536)
                if not chunk:
                    return
                data += chunk
            assert data.startswith(b"\x0b")
            message = data[1:].partition(b"\x1c\r")[0]
            try:
                self._answer(connection, message)
            except OSError:
                pass  # the sender has given up, as the script wants

    def _answer(self, connection: socket.socket, raw: bytes) -> None:
        message = raw.decode("utf-8")
        control_id = message.split("|")[9]
        self.received.append(control_id)
        self.raw[raw] += 1
        step = self.script.pop(0) if self.script else "AA"
        code, _, reason = step.partition("/")
        if code in ("AA", "CA", "drop", "late", "stale") and control_id not in self.processed:
            self.processed[control_id] = message
            self.order.append(control_id)
        if code == "drop":
            return
        if code == "late":
            time.sleep(self.late_seconds)
        if code == "stale":
            connection.sendall(_framed("AE", "SOME-OTHER-MESSAGE", "100"))
        code = "AA" if code in ("late", "stale") else code
        connection.sendall(_framed(code, control_id, reason))


def _framed(code: str, control_id: str, reason: str) -> bytes:
    segments = [
        "MSH|^~\\&|RIS|HOSPITAL|AINODE||20260101000000||ACK^R01^ACK|A1|P|2.5.1",
        f"MSA|{code}|{control_id}|patient SECRETID is not known" if code != "AA" else f"MSA|{code}|{control_id}",
    ]
    if reason:
        segments.append(f"ERR||PID^1^3|{reason}^words^HL70357|E")
    return b"\x0b" + "\r".join(segments).encode() + b"\r\x1c\r"


class HttpReceiver:
    """An HTTP server that keeps what is posted to it.

    Attributes
    ----------
    faults : list of int
        Statuses of the next answers; 0 takes the message and closes without an answer.
    """

    def __init__(self) -> None:
        self.faults: list[int] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Any]:
        """Listen until the block ends."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fault = outer.faults.pop(0) if outer.faults else None
                if fault:
                    answer(self, fault, outer.refusal(), {"Content-Type": "application/fhir+json"})
                    return
                outer.headers.append({key.lower(): value for key, value in self.headers.items()})
                outer.bodies.append(body)
                status, content = outer.take(body)
                if fault == 0:
                    self.close_connection = True
                    return
                answer(self, status, content, {"Content-Type": "application/fhir+json"})

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def refusal(self) -> bytes:
        """Body of an answer from ``faults``."""
        return b""

    def take(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of a good answer."""
        return 204, b""


class WebhookReceiver(HttpReceiver):
    """Checks signatures by the text of Standard Webhooks, with none of the node's code."""

    def __init__(self, secret: bytes) -> None:
        super().__init__()
        self._secret = secret

    def messages(self) -> list[dict[str, Any]]:
        """Everything that came, if all signatures are right."""
        for headers, body in zip(self.headers, self.bodies, strict=True):
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            expected = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest()).decode()
            assert headers["webhook-signature"] == f"v1,{expected}"
            assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        return [json.loads(body) for body in self.bodies]


class FhirServer(HttpReceiver):
    """Takes transactions of conditional updates, refuses what the resources' models refuse.

    Attributes
    ----------
    resources : dict
        (resource type, identifier) → resource, as last put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.resources: dict[tuple[str, str], dict[str, Any]] = {}

    def refusal(self) -> bytes:
        issue = {"severity": "error", "code": "business-rule", "diagnostics": "patient SECRETID is not known"}
        return json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()

    def take(self, body: bytes) -> tuple[int, bytes]:
        bundle = json.loads(body)
        Bundle.model_validate(bundle)
        assert bundle["type"] == "transaction"
        responses = []
        urls = {entry["fullUrl"] for entry in bundle["entry"]}
        for entry in bundle["entry"]:
            resource = entry["resource"]
            kind = resource["resourceType"]
            {"Observation": Observation, "DiagnosticReport": DiagnosticReport}[kind].model_validate(resource)
            assert all(each["reference"] in urls for each in resource.get("result", []))
            assert entry["request"]["method"] == "PUT"
            path, _, query = entry["request"]["url"].partition("?")
            (wanted,) = urllib.parse.parse_qs(query)["identifier"]
            assert path == kind
            assert wanted in {f"{each['system']}|{each['value']}" for each in resource["identifier"]}
            new = (kind, wanted) not in self.resources
            self.resources[kind, wanted] = resource
            responses.append({"response": {"status": "201 Created" if new else "200 OK"}})
        return 200, json.dumps({"resourceType": "Bundle", "type": "transaction-response", "entry": responses}).encode()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Resources of a type."""
        return [resource for (found, _), resource in self.resources.items() if found == kind]


@dataclass
class MailServer:
    """An SMTP server with STARTTLS and sign-on. ``replies`` are those to the next messages, then 250."""

    certificate: Certificate
    replies: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    messages: list[bytes] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address in self.refused:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
        assert session.ssl is not None, "a message came in the clear"
        assert session.authenticated
        if self.replies:
            reply = self.replies.pop(0)
            if not reply.startswith("2"):
                return reply
        self.messages.append(envelope.content)
        return "250 taken"

    @contextmanager
    def running(self) -> Iterator[MailServer]:
        """Listen until the block ends."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        self.port = free_port()
        controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=lambda _server, _session, _envelope, _mechanism, data: AuthResult(
                success=(data.login, data.password) == (b"ainode", b"mail-word")
            ),
        )
        try:
            controller.start()
        except OSError as error:
            pytest.skip(f"the mail server cannot start ({error})")
        try:
            yield self
        finally:
            controller.stop()
