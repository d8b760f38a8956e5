"""Archives on loopback under the AE title ARCHIVE, empty at first: C-STORE, C-FIND, C-MOVE and C-GET."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.network import tool_server
from tests.orthanc_peer import running_orthanc
from tests.peers import free_port


@contextmanager
def dcmqrscp_archive(folder: Path, node_port: int) -> Iterator[int]:
    """DCMTK's archive; it knows the node and sends to it."""
    port = free_port()
    (folder / "qr").mkdir(parents=True)
    config = folder / "qr.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nnode = (AINODE, 127.0.0.1, {node_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {folder / 'qr'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with tool_server("dcmqrscp", "-c", config, port=port):
        yield port


@contextmanager
def orthanc_archive(folder: Path, node_port: int) -> Iterator[int]:
    """Orthanc as an archive; it knows the node and sends to it."""
    with running_orthanc(folder / "orthanc", node_port=node_port, DicomAet="ARCHIVE") as orthanc:
        yield orthanc.port
