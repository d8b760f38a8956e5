"""Scheduler step, dispatcher and a real child over a real store: what becomes of good, bad and deadly runs."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.archive.engine import Store, open_store
from node.archive.tables import jobs as job_rows
from node.archive.tables import ledger
from node.cli import main
from node.delivery import outbox
from node.errors import SpoolFull
from node.identity import load_identity
from node.jobs import queue
from node.jobs.dispatcher import Dispatcher
from node.jobs.executors.local import LocalExecutor
from node.settings import Settings, load
from node.why import tell
from tests.migrated import upgrade
from tests.received_study import receive_complete
from tests.unit.models_registry.conftest import write_spots

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "tests" / "unit" / "node_runtime" / "fake_host.py"
CONFIG = """
[node]
name = "test-node"
data_dir = "data"
[receive]
disk_reserve_bytes = 0
[arrival]
quiet_seconds = 0
[jobs]
threads = 1
maximum_attempts = 2
retry_seconds = 0
stat_slot = false
[destination.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 1
[[rule]]
name = "RULE"
model = "MODEL"
destinations = ["pacs"]
EXTRA
"""


class Bench:
    """A node without network: files are indexed by hand, steps are taken one by one."""

    def __init__(self, folder: Path, rule: str, extra: str = "", model: str = "infarct-adc-baseline") -> None:
        self.config = folder / "node.toml"
        self.config.write_text(CONFIG.replace("RULE", rule).replace("MODEL", model).replace("EXTRA", extra))
        self.settings: Settings = load(self.config)
        upgrade(self.settings)
        self.store: Store = open_store(self.settings)
        self.executor = LocalExecutor(self.settings, command=[sys.executable, str(HOST)])
        self.dispatcher = self.new_dispatcher()

    def new_dispatcher(self, **options: Any) -> Dispatcher:
        return Dispatcher(self.settings, self.store, self.executor, load_identity(self.settings), **options)

    def receive(self, files: tuple[Path, ...]) -> str:
        """Index files and let the study be complete; return its UID."""
        return receive_complete(self.settings, self.store, files)

    def job(self, job_id: int) -> Any:
        with self.store.read() as connection:
            return queue.get(connection, job_id)

    def objects(self, job_id: int) -> list[Any]:
        with self.store.read() as connection:
            return outbox.list_objects(connection, job_id=job_id)

    def deliveries(self) -> list[Any]:
        with self.store.read() as connection:
            return outbox.list_deliveries(connection)

    def kinds(self) -> list[str]:
        with self.store.read() as connection:
            return list(connection.execute(select(ledger.c.kind).order_by(ledger.c.id)).scalars())

    def text_of(self, row: Any) -> str:
        dataset = dcmread(self.settings.data_dir / "outbox" / row.path)
        return json.dumps(dataset.to_json_dict(), ensure_ascii=False)


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    rule, extra = getattr(request, "param", ("echo", ""))
    made = Bench(tmp_path, rule, extra)
    yield made
    made.executor.close()
    made.store.close()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, ...]]:
    """Files of two small studies."""
    folder = tmp_path_factory.mktemp("phantoms")
    return [
        write_phantom_study(
            make_phantom(seed, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6)), folder / str(seed), seed=seed
        ).files
        for seed in (11, 12)
    ]


@pytest.mark.parametrize("bench", [("die", '[[rule]]\nname = "echo"\nmodel = "x"\n')], indirect=True)
def test_poison_ends_dead_with_a_status_object_and_hurts_nobody(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    study = bench.receive(phantoms[0])
    assert [bench.dispatcher.run_once() for _ in range(4)] == [True, True, True, False]
    dead, echo = bench.job(1), bench.job(2)
    assert (dead.state, dead.attempts, dead.error_code) == ("dead", 2, "JOB-002")
    assert echo.state == "done" and echo.attempts == 1
    (status,) = bench.objects(1)
    assert status.role == "status"
    text = bench.text_of(status)
    assert "JOB-003" in text and "SIGSEGV" in text
    assert [(row.destination, row.state) for row in bench.deliveries()] == [("pacs", "queued")]
    with bench.store.read() as connection:
        story = tell(connection, study)
    assert "job 1 is DEAD after 2 attempt(s)" in story and "SIGSEGV" in story
    assert not list((bench.settings.data_dir / "work").iterdir())
    # Tried again on request, and answered again: other content has another UID.
    assert main(["--config", str(bench.config), "retry", "1"]) == 0
    assert bench.job(1).result is None
    assert [bench.dispatcher.run_once() for _ in range(3)] == [True, True, False]
    assert bench.job(1).state == "dead"


@pytest.mark.parametrize("bench", [("hang", "deadline_seconds = 0.5")], indirect=True)
def test_deadline_ends_the_run_with_a_status_object(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    assert bench.dispatcher.run_once()
    job = bench.job(1)
    assert (job.state, job.error_code, job.result["answered"]) == ("failed", "JOB-001", True)
    assert "JOB-001" in bench.text_of(bench.objects(1)[0])


@pytest.mark.parametrize("bench", [("hang", "shadow = true\ndeadline_seconds = 0.3")], indirect=True)
def test_shadow_run_sends_nothing(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    assert bench.dispatcher.run_once()
    assert bench.job(1).state == "failed"
    assert bench.deliveries() == []


@pytest.mark.parametrize("bench", [("hang", "")], indirect=True)
def test_cancelled_run_stops_and_leaves_nothing(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    threading.Timer(1.5, lambda: main(["--config", str(bench.config), "cancel", "1"])).start()
    started = time.monotonic()
    assert bench.dispatcher.run_once()
    assert time.monotonic() - started < 10
    assert bench.job(1).state == "cancelled"
    assert bench.objects(1) == []


@pytest.mark.parametrize("bench", [("hang", "")], indirect=True)
def test_stopping_node_gives_the_job_back_without_an_attempt(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    stopping = threading.Event()
    threading.Timer(1.5, stopping.set).start()
    bench.dispatcher.run(stopping)
    assert (bench.job(1).state, bench.job(1).attempts) == ("queued", 0)


@pytest.mark.parametrize("bench", [("full", "")], indirect=True)
def test_full_disk_costs_no_attempt_and_the_run_comes_when_there_is_room(
    bench: Bench, phantoms: list[tuple[Path, ...]]
) -> None:
    """More often than a job may be tried; then the disk has room again and nobody has to do anything."""
    bench.receive(phantoms[0])
    bench.executor.start()
    (room,) = (bench.settings.data_dir / "rooms").iterdir()
    full = room / "tmp" / "full"  # of all the machine the child sees its room
    full.touch()
    for _ in range(3):
        with pytest.raises(SpoolFull):
            bench.dispatcher.run_once()
        assert (bench.job(1).state, bench.job(1).attempts) == ("queued", 0)
    full.unlink()
    assert bench.dispatcher.run_once()
    assert (bench.job(1).state, bench.job(1).attempts) == ("done", 1)


def test_no_run_starts_without_room_for_its_results(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    free = shutil.disk_usage(bench.settings.data_dir).free
    for reserve, fits in ((free * 8, False), (free * 2, True)):
        receive = bench.settings.receive.model_copy(update={"disk_reserve_bytes": reserve})
        bench.settings = bench.settings.model_copy(update={"receive": receive})
        bench.dispatcher = bench.new_dispatcher()
        if fits:
            assert bench.dispatcher.run_once()
            continue
        with pytest.raises(SpoolFull):
            bench.dispatcher.run_once()
        assert (bench.job(1).state, bench.job(1).attempts) == ("queued", 0)


def test_job_that_died_with_its_dispatchers_is_answered(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    for _ in range(2):
        with bench.store.write() as connection:
            assert queue.lease(connection, time.time(), owner="gone", lease_seconds=2)
            connection.execute(update(job_rows).values(lease_until=0.0))
            assert queue.sweep(connection, time.time()) == [1]
    assert bench.job(1).state == "dead" and bench.objects(1) == []
    assert bench.dispatcher.answer_the_dead() == 1
    assert bench.dispatcher.answer_the_dead() == 0
    assert [row.role for row in bench.objects(1)] == ["status"]
    assert len(bench.deliveries()) == 1


@pytest.mark.parametrize(
    "bench", [("echo", '[[rule]]\nname = "urgent"\nmodel = "x"\npriority = "stat"\n')], indirect=True
)
def test_stat_comes_first_and_has_a_slot_of_its_own(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    bench.receive(phantoms[0])
    reserved = bench.new_dispatcher(stat_only=True)
    assert [reserved.run_once(), reserved.run_once()] == [True, False]
    assert (bench.job(1).state, bench.job(2).state) == ("queued", "done")
    bench.receive(phantoms[1])
    assert bench.dispatcher.run_once()
    assert (bench.job(3).state, bench.job(4).rule, bench.job(4).state) == ("queued", "urgent", "done")


def test_missing_file_is_a_failure_said_aloud(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    study = bench.receive(phantoms[0])
    shutil.rmtree(bench.settings.data_dir / "spool" / "aa" / study)
    assert bench.dispatcher.run_once()
    job = bench.job(1)
    assert (job.state, job.error_code, job.result["answered"]) == ("failed", "SPO-002", False)


@pytest.mark.parametrize("bench", [("real", "")], indirect=True)
def test_cut_off_end_of_a_run_is_repeated_with_the_same_bytes(
    bench: Bench, phantoms: list[tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed between placing the objects and the last transaction, and once more within it."""
    study = bench.receive(phantoms[0])

    class Killed(Exception):
        pass

    def die(*arguments: Any, **options: Any) -> None:
        raise Killed

    for victim in ("node.jobs.queue.finish", "node.delivery.outbox.freeze"):
        with monkeypatch.context() as patched:
            patched.setattr(victim, die)
            with pytest.raises(Killed):
                bench.dispatcher.run_once()
        assert bench.objects(1) == [] and bench.job(1).state == "running"
        with bench.store.write() as connection:
            connection.execute(update(job_rows).values(lease_until=0.0, attempts=0))
            queue.sweep(connection, time.time())
    assert bench.dispatcher.run_once()
    job, objects = bench.job(1), bench.objects(1)
    assert (job.state, job.result["outcome"]) == ("done", "found")
    assert sorted(row.role for row in objects) == ["measurements", "seg"]
    assert len(bench.deliveries()) == 2
    files = [each for each in (bench.settings.data_dir / "outbox").rglob("*") if each.is_file()]
    assert len(files) == 3
    # The command line gives the same bytes for the same files.
    out = tmp_path / "out"
    assert main(["--config", str(bench.config), "process", str(phantoms[0][0].parent), "--out", str(out)]) == 0
    for row in objects:
        assert hashlib.sha256((out / f"{row.role}.dcm").read_bytes()).hexdigest() == row.digest
    assert study == dcmread(out / "seg.dcm", stop_before_pixels=True).StudyInstanceUID


def test_a_site_model_serves_only_once_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phantoms: list[tuple[Path, ...]]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    catalogue = write_spots(tmp_path / "site")
    extra = f'[[rule]]\nname = "real-site"\nmodel = "bright-spots"\ndestinations = ["pacs"]\n[models]\nfolders = ["{catalogue}"]'
    bench = Bench(tmp_path, "echo", extra)
    try:
        bench.receive(phantoms[0])
        while bench.dispatcher.run_once():
            pass
        (status,) = bench.objects(2)
        assert "MOD-017" in bench.text_of(status)
        words = ["--config", str(bench.config)]
        assert main([*words, "models", "approve", "bright-spots", "--by", "Dr Test", "--accept-licence"]) == 0
        bench.receive(phantoms[1])
        while bench.dispatcher.run_once():
            pass
        # It is asked now, and refuses for a reason of its own: four volumes could be the one image it takes.
        (status,) = bench.objects(5)  # job 3 told of both runs in one status
        assert "SER-012" in bench.text_of(status)
    finally:
        bench.executor.close()
        bench.store.close()


class _Testing:
    """The executor of a bench, whose child has a model to ask for as long as the test says."""

    def __init__(self, inner: LocalExecutor, turns: int) -> None:
        self._inner, self.turns = inner, turns
        self.log: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def test_when_idle(self, approved: Any) -> bool:
        self.turns -= 1
        self.log.append("test" if self.turns > 0 else "none")
        return self.turns > 0

    def run(self, spec: Any, **options: Any) -> Any:
        self.log.append("run")
        return self._inner.run(spec, **options)


def test_a_self_test_waits_for_work_and_holds_none(bench: Bench, phantoms: list[tuple[Path, ...]]) -> None:
    executor = bench.dispatcher._executor = _Testing(bench.executor, 3)  # type: ignore[assignment]
    bench.receive(phantoms[0])
    pauses = [bench.dispatcher.turn() for _ in range(2)]
    bench.receive(phantoms[1])
    pauses += [bench.dispatcher.turn() for _ in range(3)]
    assert executor.log == ["run", "test", "test", "none", "run"], (
        "a job is left to others while a model is being asked"
    )
    assert pauses[0] == pauses[3] == pauses[4] == 0.0 < pauses[1] == pauses[2] < 1.0
    assert bench.dispatcher.turn() > 1.0
