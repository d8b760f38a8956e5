"""Orthanc's DICOMweb plug-in as a peer, and the gate of a token service in front of it, all on loopback."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.orthanc_peer import DICOMWEB_PLUGIN, orthanc_process
from tests.peers import free_port, require_file
from tests.tls_certificates import Certificate

USER, PASSWORD = "ainode", "a-long-word"


@dataclass(frozen=True)
class WebOrthanc:
    """A running Orthanc with DICOMweb; ``password`` tells whether it asks for one."""

    http_port: int
    password: bool = False

    @property
    def root(self) -> str:
        """Where it listens."""
        return f"http://localhost:{self.http_port}"

    @property
    def url(self) -> str:
        """Base of its DICOMweb resources."""
        return f"{self.root}/dicom-web"

    def get(self, path: str) -> Any:
        """GET a resource of Orthanc's own REST interface."""
        request = urllib.request.Request(self.root + path)
        if self.password:
            request.add_header("Authorization", f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if answer.headers.get("Content-Type", "").startswith("application/json") else body

    def add(self, file: Path) -> None:
        """Store a file by Orthanc's own REST interface."""
        request = urllib.request.Request(self.root + "/instances", data=file.read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def instances(self) -> dict[str, str]:
        """SOP Instance UID → Orthanc's id, of everything stored."""
        found = self.get("/instances?expand")
        return {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in found}

    def file(self, sop_instance_uid: str) -> bytes:
        """The stored Part 10 file."""
        return bytes(self.get(f"/instances/{self.instances()[sop_instance_uid]}/file"))


@contextmanager
def running_web_orthanc(folder: Path, *, password: bool = False) -> Iterator[WebOrthanc]:
    """Start Orthanc. Without TLS: Debian's build of it dies in its first handshake; see :class:`Gate`."""
    require_file(DICOMWEB_PLUGIN)
    peer = WebOrthanc(free_port(), password)
    settings: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": peer.http_port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": password,
        "RegisteredUsers": {USER: PASSWORD},
        "OverwriteInstances": False,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    with orthanc_process(folder, settings, peer.get):
        yield peer


@dataclass
class Gate:
    """A reverse proxy before a service, as hospitals have them: with TLS, or with tokens of an endpoint of its own.

    Attributes
    ----------
    certificate : Certificate or None
        TLS that asks every client for a certificate of the same authority.
    tokens : bool
        Let nothing through without the latest token; else credentials are passed on.
    faults : list of int
        HTTP statuses the next requests are answered with, instead of being passed on.
    drop_answers : int
        So many answers to POST are lost after the service has given them.
    issued, passed : list of str
        Tokens so far, and requests that were passed on.
    """

    behind: str
    certificate: Certificate | None = None
    tokens: bool = True
    client_id: str = "node"
    client_secret: str = "s3cret-of-the-node"
    faults: list[int] = field(default_factory=list)
    drop_answers: int = 0
    issued: list[str] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def root(self) -> str:
        """Where the gate listens."""
        assert self._server is not None
        return f"{'https' if self.certificate else 'http'}://localhost:{self._server.server_address[1]}"

    def revoke(self) -> None:
        """The latest token is refused from now on."""
        self.issued.append(f"token-{len(self.issued)}-nobody-has-it")

    @contextmanager
    def running(self) -> Iterator[Gate]:
        """Listen until the block ends."""
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                gate._handle(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.certificate.ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(self.certificate.certificate, self.certificate.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.path == "/token":
            return self._issue(request, body)
        if self.faults:
            return answer(request, self.faults.pop(0), b"", {})
        shown = request.headers.get("Authorization")
        if self.tokens and (not self.issued or shown != f"Bearer {self.issued[-1]}"):
            return answer(request, 401, b"", {"WWW-Authenticate": "Bearer"})
        self.passed.append(f"{request.command} {request.path.partition('?')[0]}")
        forwarded = urllib.request.Request(self.behind + request.path, data=body or None, method=request.command)
        for name in ("Content-Type", "Accept", *(() if self.tokens else ("Authorization",))):
            if value := request.headers.get(name):
                forwarded.add_header(name, value)
        try:
            with urllib.request.urlopen(forwarded, timeout=10) as found:
                status, content, kind = found.status, found.read(), found.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers.get("Content-Type", "")
        if request.command == "POST" and self.drop_answers:
            self.drop_answers -= 1
            request.close_connection = True
            return None
        return answer(request, status, content, {"Content-Type": kind})

    def _issue(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        word = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        form = urllib.parse.parse_qs(body.decode())
        if request.headers.get("Authorization") != f"Basic {word}" or form.get("grant_type") != ["client_credentials"]:
            return answer(request, 401, b'{"error": "invalid_client"}', {"Content-Type": "application/json"})
        self.issued.append(f"token-{len(self.issued)}")
        content = {"access_token": self.issued[-1], "token_type": "Bearer", "expires_in": 3600}
        return answer(request, 200, json.dumps(content).encode(), {"Content-Type": "application/json"})


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Answer a request of the standard library's server."""
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)
