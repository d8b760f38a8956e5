"""Archives on loopback under the AE title ARCHIVE, empty at first: C-STORE, C-FIND, C-MOVE and C-GET."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.network import instance, tool_server
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


def dated_images(folder: Path, study: str, count: int, begun: datetime, **attributes: Any) -> list[Path]:
    """One series of a study that began then, by the site's wall clock."""
    common = {
        "StudyDate": f"{begun:%Y%m%d}",
        "StudyTime": f"{begun:%H%M%S}",
        "AccessionNumber": f"A-{study}",
        "PatientID": f"P-{study}",
        "StudyID": "1",
        "SeriesNumber": 1,
    }
    return [instance(folder, n, study=study, InstanceNumber=n + 1, **{**common, **attributes}) for n in range(count)]


def archive_destination(port: int) -> dict[str, Any]:
    """The archive as destination ``pacs``."""
    return {"pacs": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "commitment": False}}
