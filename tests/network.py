"""Nodes, peers and files for tests with real sockets, all on loopback."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import insert, select

from node.archive import tables
from node.archive.engine import Store, open_store
from node.archive.part10 import file_meta_bytes
from node.archive.spool import Spool
from node.delivery import outbox
from node.delivery.sender import Sender
from node.dicom.association import Peer
from node.dicom.storage_scp import Receiver
from node.settings import Settings
from tests.migrated import upgrade
from tests.peers import free_port, require
from tests.store_instances import dataset_bytes, spool_files

MR = "1.2.840.10008.5.1.4.1.1.4"
LABEL_MAP_SEG = "1.2.840.10008.5.1.4.1.1.66.7"
LANE = "auto"
"""``receive.lane`` of the nodes made here; the fixture ``lane`` has a test run over both."""


def uid(*parts: int | str) -> str:
    """A UID that depends on nothing but ``parts``."""
    return "2.25." + str(int(hashlib.sha256(repr(parts).encode()).hexdigest()[:30], 16))


def instance(
    folder: Path,
    number: int | str = 0,
    *,
    study: str = "s",
    sop_class: str = MR,
    transfer_syntax: str = ExplicitVRLittleEndian,
    pixels: bytes = b"\0" * 512,
    **attributes: Any,
) -> Path:
    """Write a small image; everything follows from the arguments."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = uid(study, "instance", number)
    dataset.StudyInstanceUID = uid(study)
    dataset.SeriesInstanceUID = uid(study, "series")
    dataset.Modality = "MR"
    dataset.PatientID = f"P-{study}"
    dataset.PatientName = "Test^Case"
    dataset.AccessionNumber = "A1"
    dataset.Rows = 16
    dataset.Columns = 16
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW"
    path = folder / f"{study}-{number}.dcm"
    folder.mkdir(parents=True, exist_ok=True)
    # By hand: pydicom would insist on an encoding that fits the transfer syntax.
    meta = file_meta_bytes(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=transfer_syntax,
    )
    path.write_bytes(meta + dataset_bytes(dataset))
    return path


@dataclass
class Node:
    """A node's store, spool and receiver, without its other processes."""

    settings: Settings
    store: Store
    spool: Spool
    receiver: Receiver
    host: str
    port: int

    def rows(self, table: Any, *conditions: Any) -> list[Any]:
        """Rows of a table."""
        with self.store.read() as connection:
            return list(connection.execute(select(table).where(*conditions)))

    def ledger(self, kind: str) -> list[Any]:
        """Ledger rows of a kind."""
        return self.rows(tables.ledger, tables.ledger.c.kind == kind)

    def files(self) -> list[Path]:
        """Every stored file."""
        return [self.spool.absolute(relative) for relative in spool_files(self.spool)]

    def peer(self, **changes: Any) -> Peer:
        """This node as a destination."""
        values = {"ae_title": "AINODE", "host": self.host, "port": self.port, "calling_ae_title": "MODALITY"}
        return Peer(**{**values, **changes})  # type: ignore[arg-type]


def node_settings(folder: Path, **sections: Any) -> Settings:
    """Settings of a node that lives in ``folder``; no reserve, so that small test disks do."""
    node = {"data_dir": str(folder / "data"), **sections.pop("node", {})}
    receive = {"port": free_port(), "disk_reserve_bytes": 0, "lane": LANE, **sections.pop("receive", {})}
    return Settings.model_validate({"node": node, "receive": receive, **sections})


@contextmanager
def running_node(
    folder: Path, *, listening_socket: socket.socket | None = None, store_url: str = "", **sections: Any
) -> Iterator[Node]:
    """A receiver over a fresh or existing store in ``folder``."""
    if store_url:
        sections["store"] = {"url": store_url}
    settings = node_settings(folder, **sections)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    upgrade(settings)
    store = open_store(settings)
    spool = Spool(settings.data_dir / "spool", settings.receive.disk_reserve_bytes)
    receiver = Receiver(settings, store, spool)
    host, port = receiver.start(listening_socket)
    try:
        yield Node(settings, store, spool, receiver, host, port)
    finally:
        receiver.stop(0.5)
        store.close()


def run_tool(
    tool: str, *arguments: str | Path | int, no_delay: bool = True, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK tool to its end; output of both streams in ``stdout``."""
    environment = dict(os.environ)
    environment.pop("TCP_NODELAY", None)
    if no_delay:
        environment["TCP_NODELAY"] = "1"
    return subprocess.run(
        [require(tool), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        timeout=seconds,
        check=False,
    )


@contextmanager
def tool_server(tool: str, *arguments: str | Path | int, port: int, no_delay: bool = True) -> Iterator[None]:
    """Run a listening peer until the block ends."""
    environment = {**os.environ, "TCP_NODELAY": "1"} if no_delay else dict(os.environ)
    process = subprocess.Popen(
        [require(tool), *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        wait_for(lambda: _listens(port), f"{tool} on port {port}", seconds=30)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_for(condition: Callable[[], Any], what: str, *, seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; fail the test when it never does."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def file_delivery(
    store: Store, settings: Settings, files: Sequence[Path], destinations: Sequence[str], *, now: float, job: str = "j"
) -> int:
    """Put files into the outbox as a finished job would; return the job's number."""
    from node.dicom.storage_scu import read_object_file

    folder = settings.data_dir / "outbox" / job
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file in files:
        placed = folder / file.name
        placed.write_bytes(file.read_bytes())
        facts = read_object_file(placed)
        header = dcmread(placed, stop_before_pixels=True)
        study_uid = str(header.StudyInstanceUID)
        written.append(
            SimpleNamespace(
                role="seg",
                profile="default",
                path=f"{job}/{file.name}",
                sop_instance_uid=facts.sop_instance_uid,
                sop_class_uid=facts.sop_class_uid,
                series_uid=str(header.SeriesInstanceUID),
                transfer_syntax_uid=facts.transfer_syntax_uid,
                digest=hashlib.sha256(placed.read_bytes()).hexdigest(),
                size=facts.size,
            )
        )
    with store.write() as connection:
        row = connection.execute(
            insert(tables.jobs).values(
                study_uid=study_uid,
                rule="r",
                model_id="m",
                input_key=job,
                priority=2,
                state="done",
                maximum_attempts=3,
                created_at=now,
                specification={},
            )
        )
        (number,) = row.inserted_primary_key
        outbox.freeze(
            connection,
            now,
            job_id=number,
            study_uid=study_uid,
            objects=written,
            destinations={"default": list(destinations)},
            priority=2,
        )
    return int(number)


@contextmanager
def running_sender(settings: Settings, store: Store) -> Iterator[None]:
    """A sender in this process."""
    stop = threading.Event()
    thread = threading.Thread(target=Sender(settings, store).run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive(), "the sender did not stop"
