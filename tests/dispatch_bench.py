"""A node without network: real store, real children, real models; the tests say when something happens."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.archive.engine import Store, open_store
from node.archive.tables import deliveries as delivery_rows
from node.archive.tables import jobs as job_rows
from node.delivery import outbox
from node.delivery.delivery_states import DeliveryState
from node.identity import load_identity
from node.jobs import queue
from node.jobs.dispatcher import Dispatcher
from node.jobs.executors.local import LocalExecutor
from node.settings import Settings
from tests.conftest import ROOT
from tests.received_study import receive_complete

HOST = ROOT / "tests" / "unit" / "node_runtime" / "fake_host.py"
PROFILE = {"objects": ["seg", "status"], "superseded": "rejection"}
DESTINATION = {"ae_title": "PACS", "host": "127.0.0.1", "port": 1}


def rule(name: str, destinations: tuple[str, ...] = ("pacs",), **more: Any) -> dict[str, Any]:
    return {"name": name, "model": "infarct-adc-baseline", "destinations": list(destinations), **more}


class Bench:
    """A node without network."""

    def __init__(self, base: Settings, rules: list[dict[str, Any]], **sections: Any) -> None:
        plain = {
            "node": {**base.node.model_dump(mode="json"), "language": "en"},
            "store": base.store.model_dump(mode="json"),
            "receive": {"disk_reserve_bytes": 0},
            "arrival": {"quiet_seconds": 0},
            "jobs": {"threads": 1, "maximum_attempts": 2, "retry_seconds": 0, "stat_slot": False},
            "destination": {"pacs": DESTINATION},
            "profile": {"default": PROFILE},
            "rule": rules,
            **sections,
        }
        self.settings = Settings.model_validate(plain)
        self.store: Store = open_store(self.settings)
        self.executors: list[LocalExecutor] = []
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self) -> Dispatcher:
        self.executors.append(LocalExecutor(self.settings, command=[sys.executable, str(HOST)]))
        return Dispatcher(self.settings, self.store, self.executors[-1], load_identity(self.settings))

    def close(self) -> None:
        for each in self.executors:
            each.close()
        self.store.close()

    def receive(self, files: tuple[Path, ...]) -> str:
        return receive_complete(self.settings, self.store, files)

    def again(self, run: Any, number: int) -> None:
        """File the same run once more, to supersede it."""
        with self.store.write() as connection:
            queue.enqueue(
                connection,
                time.time(),
                study_uid=run.study_uid,
                rule=run.rule,
                model_id=run.model_id,
                input_key=run.input_key,
                priority=queue.Priority(run.priority),
                maximum_attempts=2,
                specification=run.specification,
                shadow=False,
                run=number,
            )

    def run(self) -> None:
        """Run whatever may start, the waits of a status over."""
        while self.dispatcher.run_once():
            pass
        self.hurry()
        while self.dispatcher.run_once():
            pass

    def hurry(self) -> None:
        with self.store.write() as connection:
            connection.execute(update(job_rows).values(not_before=0.0))

    def jobs(self, kind: str) -> list[Any]:
        with self.store.read() as connection:
            return list(connection.execute(select(job_rows).where(job_rows.c.kind == kind).order_by(job_rows.c.id)))

    def deliveries(self, destination: str = "pacs") -> list[Any]:
        with self.store.read() as connection:
            return outbox.list_deliveries(connection, destination=destination)

    def standing(self, destination: str = "pacs") -> list[Any]:
        """Deliveries of status objects that go out, or have gone out, and stand."""
        return [
            row
            for row in self.deliveries(destination)
            if row.role.startswith("status") and row.state != "withdrawn" and row.replaced_by is None
        ]

    def stored(self) -> None:
        """The destination takes everything that is on its way."""
        waiting = delivery_rows.c.state == str(DeliveryState.QUEUED)
        values = {"state": str(DeliveryState.STORED), "sent_at": time.time()}
        with self.store.write() as connection:
            connection.execute(update(delivery_rows).where(waiting).values(**values))

    def dataset(self, row: Any) -> Dataset:
        path = self.settings.data_dir / "outbox" / row.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row.digest, "frozen bytes never change"
        return dcmread(path)


def small_studies(folder: Path, seeds: Iterable[int]) -> list[tuple[Path, ...]]:
    """Files of phantom studies in which the infarct model finds something, as small as it takes them."""
    small: dict[str, Any] = {"shape_zyx": (12, 64, 64), "spacing_mm_zyx": (11.0, 3.6, 3.6)}
    return [write_phantom_study(make_phantom(seed, **small), folder / str(seed), seed=seed).files for seed in seeds]
