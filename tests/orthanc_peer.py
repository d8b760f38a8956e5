"""Orthanc as a peer on loopback, started by the tests with a configuration of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.peers import free_port, require, require_file

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its DICOM port, and its REST interface for looking inside."""

    port: int
    http_port: int
    ae_title: str = "ORTHANC"

    def get(self, path: str) -> Any:
        """GET a REST resource, decoded from JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Resources of ``level`` (Study, Series, Instance) that match the tags given."""
        body = json.dumps({"Level": level, "Query": query, "Expand": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/tools/find", body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.loads(answer.read()))

    def store(self, file: Path) -> None:
        """POST a Part 10 file."""
        address = f"http://127.0.0.1:{self.http_port}/instances"
        with urllib.request.urlopen(urllib.request.Request(address, file.read_bytes()), timeout=10) as answer:
            answer.read()

    def file(self, instance: str) -> bytes:
        """The stored Part 10 file of an instance, by Orthanc's own id."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}/instances/{instance}/file", timeout=10
        ) as answer:
            return bytes(answer.read())


@contextmanager
def running_orthanc(
    folder: Path, *, node_port: int, node_ae_title: str = "AINODE", dicomweb: bool = False, **further: Any
) -> Iterator[Orthanc]:
    """Start Orthanc, wait for it, stop it at the end. Commitment reports go to ``node_port`` on a new association.

    With ``dicomweb`` it answers DICOMweb at ``/dicom-web`` of its HTTP port; ``further`` are keys of its configuration.
    """
    peer = Orthanc(free_port(), free_port())
    settings: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": peer.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": peer.port,
        "DicomAet": peer.ae_title,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": False,
        "StorageCommitmentReportsSize": 1000,
        "DicomModalities": {
            "node": {
                "AET": node_ae_title,
                "Host": "127.0.0.1",
                "Port": node_port,
                "AllowStorageCommitment": True,
                "AllowEcho": True,
                "AllowStore": True,
                "AllowFind": True,
                "AllowMove": True,
                "AllowGet": True,
            }
        },
        **further,
    }
    if dicomweb:
        require_file(DICOMWEB_PLUGIN)
        settings |= {"Plugins": [str(DICOMWEB_PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc_process(folder, settings, peer.get):
        yield peer


@contextmanager
def orthanc_process(folder: Path, settings: dict[str, Any], get: Callable[[str], Any]) -> Iterator[None]:
    """Run Orthanc with ``settings`` until the block ends, which begins once ``get`` reads a resource of it."""
    program = require("Orthanc")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
    try:
        _wait_for(get, process, folder / "orthanc.log")
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_for(get: Callable[[str], Any], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"Orthanc ended ({process.returncode}): {log.read_text(errors='replace')[-2000:]}")
        try:
            get("/system")
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError("Orthanc did not answer in a minute")
