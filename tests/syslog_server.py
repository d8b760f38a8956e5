"""A syslog receiver by RFC 5425, with none of the node's code."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

from tests.audit_judge import faults
from tests.tls_certificates import Certificate


class SyslogServer:
    """Takes frames over TLS and keeps them.

    Parameters
    ----------
    certificate : Certificate
    port : int
        On loopback.
    """

    def __init__(self, certificate: Certificate, port: int) -> None:
        self.frames: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._port = port

    @contextmanager
    def running(self) -> Iterator[None]:
        """Listen until the block ends."""
        listener = socket.create_server(("127.0.0.1", self._port))
        thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(5)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    data = b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError:
                continue
            while data:
                length, _, rest = data.partition(b" ")
                self.frames.append(rest[: int(length)])
                data = rest[int(length) :]

    def messages(self) -> list[ElementTree.Element]:
        """The XML of everything that came, judged."""
        found = []
        for frame in self.frames:
            header, _, xml = frame.decode("utf-8").partition("\ufeff")
            assert re.fullmatch(r"<85>1 \S+Z \S+ ainode \d+ DICOM\+RFC3881 - ", header), header
            assert faults(xml) == [], xml
            found.append(ElementTree.fromstring(xml))
        return found


def event_of(message: ElementTree.Element) -> tuple[str, str]:
    """Codes of Event ID and of the first Event Type Code."""
    event = message.find("EventIdentification/EventID")
    assert event is not None
    kind = message.find("EventIdentification/EventTypeCode")
    return event.attrib["csd-code"], "" if kind is None else kind.attrib["csd-code"]
