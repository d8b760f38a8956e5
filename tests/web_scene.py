"""A node's store and spool with a phantom study in them, its results, and its console on a port of loopback."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import uvicorn
from fastapi import FastAPI
from pydicom import dcmread
from sqlalchemy import insert

from dicom_sr.document import RenderedObject
from dicom_sr.write import write_objects
from node.archive import tables
from node.archive.engine import Store
from node.delivery import outbox
from node.dicom.storage_scu import send_paths
from node.settings import Settings
from node.web.app import create_app
from node.web.permission import Person, Role, permit
from tests.network import Node, wait_for
from tests.peers import free_port
from tests.unit.dicom_sr_objects.cases import Case

SOMEBODY = Person(1, "somebody", Role.ADMINISTRATOR, "127.0.0.1")


@dataclass(frozen=True)
class Scene:
    """A node with a study and results.

    Attributes
    ----------
    objects : dict
        Role → file, as frozen in the outbox.
    url : str
        Of its console.
    """

    node: Node
    case: Case
    objects: dict[str, Path]
    url: str

    @property
    def study_uid(self) -> str:
        return self.case.study.study_uid


def open_to_everybody(settings: Settings, store: Store) -> FastAPI:
    """The console for whoever comes, as an administrator; who may what is the subject of other tests."""
    app = create_app(settings, store)
    for role in Role:
        app.dependency_overrides[permit(role)] = lambda: SOMEBODY
    return app


@contextmanager
def running_web(settings: Settings, store: Store) -> Iterator[str]:
    """The console served as in a node; its URL."""
    port = free_port()
    config = uvicorn.Config(open_to_everybody(settings, store), host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started, "the console")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


def receive(node: Node, files: Sequence[Path]) -> None:
    """Have files sent to a node by C-STORE."""
    assert send_paths(node.peer(), list(files)).complete


def freeze(
    node: Node,
    objects: Sequence[RenderedObject],
    study_uid: str,
    *,
    job: str = "j",
    destinations: Sequence[str] = ("pacs",),
) -> dict[str, Path]:
    """Put rendered objects into the outbox as the job that made them does; role → file."""
    folder = node.settings.data_dir / "outbox" / job
    folder.mkdir(parents=True, exist_ok=True)
    frozen = [_written(node, each.path, each.role) for each in write_objects(objects, folder)]
    with node.store.write() as connection:
        row = connection.execute(
            insert(tables.jobs).values(
                study_uid=study_uid,
                rule="infarct",
                model_id="phantom-model",
                input_key=job,
                priority=2,
                state="done",
                maximum_attempts=3,
                created_at=time.time(),
                specification={},
            )
        )
        (number,) = row.inserted_primary_key
        outbox.freeze(
            connection,
            time.time(),
            job_id=number,
            study_uid=study_uid,
            objects=frozen,
            destinations={"default": list(destinations)},
            priority=2,
        )
    return {each.role: node.settings.data_dir / "outbox" / each.path for each in frozen}


def _written(node: Node, path: Path, role: str) -> SimpleNamespace:
    header = dcmread(path, stop_before_pixels=True)
    return SimpleNamespace(
        role=role,
        profile="default",
        path=str(path.relative_to(node.settings.data_dir / "outbox")),
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        series_uid=str(header.SeriesInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        size=path.stat().st_size,
    )
