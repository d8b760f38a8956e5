"""Certificates for tests, made by the openssl program as an administrator makes them."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import require


@dataclass(frozen=True)
class Certificate:
    """A certificate, its key, and the authority that made it."""

    certificate: Path
    key: Path
    ca: Path

    def listener(self, **changes: Any) -> dict[str, Any]:
        """``[receive.tls]`` with these files."""
        return {"enabled": True, **self.client(), **changes}

    def client(self, **changes: Any) -> dict[str, Any]:
        """``[destination.x.tls]`` with these files."""
        return {"certificate": str(self.certificate), "key": str(self.key), "ca": str(self.ca), **changes}

    def dcmtk(self) -> tuple[str, ...]:
        """Options of DCMTK's tools."""
        return ("+tls", str(self.key), str(self.certificate), "+cf", str(self.ca))


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.ca = self.folder / "ca.pem"
        self._openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", f"/CN={name}"
        )

    def issue(self, name: str, *, days: int = 20, rsa: bool = False) -> Certificate:
        """A certificate for a host of this machine; negative ``days`` make one that has expired."""
        new_key = ("-newkey", "rsa:2048", "-nodes") if rsa else _NEW_KEY
        self._openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{name}.test,DNS:localhost,IP:127.0.0.1\n")
        signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        self._openssl(*signed, "-out", f"{name}.pem", "-days", str(days), "-extfile", f"{name}.ext")
        return Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key", self.ca)

    def _openssl(self, *words: str) -> None:
        subprocess.run([require("openssl"), *words], cwd=self.folder, check=True, capture_output=True, timeout=30)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def context_of(certificate: Certificate | None, ca: Path, change: Callable[[ssl.SSLContext], None]) -> ssl.SSLContext:
    """A client's context that this project did not make."""
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    change(context)
    return context
