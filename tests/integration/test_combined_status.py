"""One status for all that ran on a study: two rules over a real store, real children, real models, no network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import update

from dicom_sr.checks.subject import concept, walk
from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node import actions, correction
from node.accounts.users import Actor
from node.archive.engine import downgrade, open_store, upgrade
from node.archive.tables import REVISION
from node.archive.tables import jobs as job_rows
from node.jobs import queue
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import Failure, JobSpec, ResultBundle
from node.settings import Settings
from node.why import tell
from tests.conftest import ROOT
from tests.dispatch_bench import DESTINATION, PROFILE, Bench, rule

pytest_plugins = ["tests.store_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NEGATIVE = {"reporting_threshold_ml": "20"}

FOUND, NEGATIVE_A, NEGATIVE_B = (
    rule("real-found"),
    rule("real-a", parameters=NEGATIVE),
    rule("real-b", parameters={"reporting_threshold_ml": "30"}),
)


Make = Callable[..., Bench]


@pytest.fixture
def make(store_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Benches on either store."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    made: list[Bench] = []

    def bench(*rules: dict[str, Any], **sections: Any) -> Bench:
        made.append(Bench(store_settings, list(rules), **sections))
        return made[-1]

    yield bench
    for each in made:
        each.close()


on_sqlite = pytest.mark.parametrize("store_settings", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("phantom")
    # Found as it is; below the threshold that the other rules set.
    lesions = (LesionSpec(2.0, "left"),)
    head = make_phantom(11, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6), lesions=lesions)
    return write_phantom_study(head, folder, seed=11).files


def texts(dataset: Dataset) -> str:
    return "\n".join(str(entry.TextValue) for entry in walk(dataset) if "TextValue" in entry)


def conclusion(dataset: Dataset) -> list[str]:
    found = [entry for entry in walk(dataset) if entry.get("ValueType") == "CODE" and concept(entry) == "121071"]
    return [concept(entry, "ConceptCodeSequence") for entry in found]


def predecessors(dataset: Dataset) -> set[str]:
    named = dataset.get("PredecessorDocumentsSequence", [])
    return {
        str(each.ReferencedSOPInstanceUID)
        for item in named
        for each in walk(item)
        if "ReferencedSOPInstanceUID" in each
    }


def test_a_negative_beside_a_finding_gives_one_status_that_hides_neither(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(FOUND, NEGATIVE_A, profile={"default": {**PROFILE, "languages": ["en", "ja"]}})
    study = bench.receive(phantom)
    bench.run()
    assert [row.result["outcome"] for row in bench.jobs("run")] == ["found", "nothing_found"]
    assert [row.result["outcome"] for row in bench.jobs("status")] == ["combined"]
    going = {row.role: row for row in bench.deliveries() if row.state == "queued"}
    assert set(going) == {"seg", "status-combined", "status-combined-ja"}
    said = bench.dataset(going["status-combined"])
    assert "FOUND SOMETHING" in texts(said) and "nothing found" in texts(said)
    assert said.SeriesDescription == "AI status: 1 found, 1 nothing found" and said.SeriesNumber == 9003
    assert conclusion(said) == ["111242"], "all algorithms succeeded; with findings"
    assert "所見あり1件" in texts(bench.dataset(going["status-combined-ja"]))
    # The run keeps its own, which did not go out.
    held = [row for row in bench.deliveries() if row.role.startswith("status") and row.state == "withdrawn"]
    assert {row.job_id for row in held} == {bench.jobs("run")[1].id}
    assert {row.replaced_by for row in held} == {bench.jobs("status")[0].id}
    with bench.store.read() as connection:
        story = tell(connection, study)
    assert f"job {bench.jobs('status')[0].id}: objects for profile default passed their check" in story
    assert f"replaced by the result of job {bench.jobs('status')[0].id}" in story and "(status)" in story


def test_two_runs_that_end_in_one_moment_give_one_status_that_tells_of_both(
    make: Make, phantom: tuple[Path, ...]
) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    bench.receive(phantom)
    others = [bench.dispatcher, bench.new_dispatcher()]
    ready, ended = threading.Barrier(2, timeout=60), threading.Barrier(2, timeout=60)

    class Together:
        """Ends of both runs are let go at the same time."""

        def __init__(self, inner: LocalExecutor) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def run(self, spec: JobSpec, **options: Any) -> ResultBundle:
            if spec.accounts is None:
                ready.wait()
            bundle = self._inner.run(spec, **options)
            if spec.accounts is None:
                ended.wait()
            return bundle

    for dispatcher, executor in zip(others, bench.executors, strict=True):
        executor.start()
        dispatcher._executor = Together(executor)  # type: ignore[assignment]
    threads = [threading.Thread(target=each.run_once) for each in others]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=90)
    assert [row.state for row in bench.jobs("run")] == ["done", "done"]
    bench.run()
    (status,) = bench.standing()
    said = bench.dataset(status)
    assert said.SeriesDescription == "AI status: 2 nothing found" and conclusion(said) == ["111241"]
    assert [row.state for row in bench.deliveries() if row.state != "withdrawn"] == ["queued"]
    assert {row.state for row in bench.jobs("status")} == {"done"}


@on_sqlite
def test_a_status_waits_for_the_others_and_then_tells_who_is_late(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    bench.receive(phantom)
    assert bench.dispatcher.run_once()
    (waiting,) = bench.jobs("status")
    assert waiting.not_before > time.time() + 30 and bench.standing() == []
    with bench.store.write() as connection:
        connection.execute(update(job_rows).where(job_rows.c.id == waiting.id).values(not_before=0.0))
        late = bench.jobs("run")[1]
        connection.execute(update(job_rows).where(job_rows.c.id == late.id).values(not_before=time.time() + 600))
    assert bench.dispatcher.run_once() and not bench.dispatcher.run_once()
    (first,) = bench.standing()
    said = bench.dataset(first)
    assert said.SeriesDescription == "AI status: 1 nothing found, 1 open" and conclusion(said) == ["111243"]
    assert "not ended yet" in texts(said)
    bench.stored()
    bench.run()
    (second,) = bench.standing()
    said = bench.dataset(second)
    assert predecessors(said) == {first.sop_instance_uid} and said.SeriesDescription.startswith(
        "AI status: 2 nothing found"
    )
    assert ", replaces " in said.SeriesDescription and said.SeriesNumber == bench.dataset(first).SeriesNumber
    # What the destination had is rejected there, as any earlier result is.
    bench.run()
    (note,) = bench.jobs("retract")
    assert [each["sop_instance_uid"] for each in note.specification["retraction"]["objects"]] == [
        first.sop_instance_uid
    ]
    assert note.state == "done" and note.result["outcome"] == "retracted"


@on_sqlite
def test_a_later_run_replaces_the_status_and_what_failed_is_said(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(NEGATIVE_A, rule("fail"))
    bench.receive(phantom)
    bench.run()
    (first,) = bench.standing()
    said = bench.dataset(first)
    assert said.SeriesDescription == "AI status: 1 not assessed, 1 nothing found" and "MOD-005" in texts(said)
    bench.stored()
    run = bench.jobs("run")[0]
    again = {name: getattr(run, name) for name in ("study_uid", "rule", "model_id", "input_key", "maximum_attempts")}
    with bench.store.write() as connection:
        queue.enqueue(
            connection,
            time.time(),
            **again,
            priority=queue.Priority(run.priority),
            specification={**run.specification, "parameters": {}},
            shadow=False,
            run=2,
        )
    bench.run()
    (second,) = bench.standing()
    said = bench.dataset(second)
    assert said.SeriesDescription.startswith("AI status: 1 found, 1 not assessed") and conclusion(said) == ["111244"]
    assert predecessors(said) == {first.sop_instance_uid}


@on_sqlite
def test_nothing_of_the_old_identity_is_named_after_a_correction(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    study = bench.receive(phantom)
    bench.run()
    bench.stored()
    (old,) = bench.standing()
    taken = bench.jobs("run")
    with bench.store.write() as connection:
        path = taken[0].specification["files"][0]
        correction.take_back(connection, time.time(), study_uid=study, path=path, changed=["PatientID"])
    assert all(row.superseded_at for kind in ("run", "status") for row in bench.jobs(kind))
    with bench.store.write() as connection:
        for run in taken:
            queue.enqueue(
                connection,
                time.time(),
                study_uid=study,
                rule=run.rule,
                model_id=run.model_id,
                input_key=run.input_key,
                priority=queue.Priority(run.priority),
                maximum_attempts=2,
                specification={**run.specification, "corrected": {"PatientID": "CORRECTED"}},
                shadow=False,
                run=2,
            )
    bench.run()
    (new,) = [row for row in bench.standing() if row.state == "queued"]
    said = bench.dataset(new)
    assert said.PatientID == "CORRECTED" and predecessors(said) == set() and "replaces" not in said.SeriesDescription
    assert new.sop_instance_uid != old.sop_instance_uid and bench.jobs("retract") == []


@on_sqlite
def test_each_destination_has_its_own_company(make: Make, phantom: tuple[Path, ...]) -> None:
    """One hears of one rule only; one is told of negatives in reports, and gets no status at all."""
    where = {"pacs": DESTINATION, "one": DESTINATION, "off": {**DESTINATION, "profile": "numbers"}}
    profiles = {"default": PROFILE, "numbers": {"objects": ["seg", "measurements"]}}
    bench = make(
        rule("real-a", ("pacs", "one", "off"), parameters=NEGATIVE),
        rule("real-b", ("pacs", "off"), parameters={"reporting_threshold_ml": "30"}),
        destination=where,
        profile=profiles,
    )
    bench.receive(phantom)
    bench.run()
    assert [row.role for row in bench.standing("pacs")] == ["status-combined"]
    (single,) = bench.standing("one")
    assert single.role == "status" and bench.dataset(single).SeriesDescription == "AI: nothing found"
    assert bench.standing("off") == [] and {row.role for row in bench.deliveries("off")} == {"measurements"}
    assert len(bench.jobs("status")) == 1


@on_sqlite
def test_a_kill_at_its_end_repeats_the_same_bytes_and_a_failure_lets_go_what_was_held(
    make: Make, phantom: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(NEGATIVE_A, rule("fail"))
    bench.receive(phantom)
    while bench.dispatcher.run_once():
        pass
    if not bench.jobs("status")[0].result:
        bench.hurry()

    class Killed(BaseException):
        pass

    def die(*arguments: Any, **options: Any) -> None:
        raise Killed

    def gone() -> None:
        with bench.store.write() as connection:
            running = job_rows.c.state == "running"
            connection.execute(update(job_rows).where(running).values(lease_until=0.0, attempts=0))
            queue.sweep(connection, time.time())

    (done,) = bench.jobs("status")
    (before,) = bench.standing()
    # As if the dispatcher had died before its last transaction, and once within it.
    run = bench.jobs("run")[0]
    bench.again(run, 2)
    assert bench.dispatcher.run_once()
    for victim in ("node.jobs.queue.finish", "node.delivery.outbox.freeze"):
        with monkeypatch.context() as patched:
            patched.setattr(victim, die)
            with pytest.raises(Killed):
                bench.dispatcher.run_once()
        assert [row.id for row in bench.standing()] == [before.id]
        gone()
    assert bench.dispatcher.run_once()
    (after,) = bench.standing()
    assert after.job_id != done.id and "run 2" not in bench.dataset(after).SeriesDescription
    placed = [path.name for path in (bench.settings.data_dir / "outbox").rglob(f"{after.sop_instance_uid}*")]
    assert len(placed) == 1, "the same bytes each time"
    # Now one that cannot be written: what was held back goes out as it is.
    real = bench.dispatcher._executor.run

    def broken(spec: JobSpec, **options: Any) -> ResultBundle:
        if spec.accounts is not None:
            return ResultBundle(failure=Failure(code="RES-001", message="as told"))
        return real(spec, **options)

    monkeypatch.setattr(bench.dispatcher._executor, "run", broken)
    bench.again(run, 3)
    bench.run()
    failed = bench.jobs("status")[-1]
    assert (failed.state, failed.result["answered"]) == ("failed", True)
    third = bench.jobs("run")[-1]
    assert {row.job_id for row in bench.standing() if row.role == "status"} == {third.id}


def test_a_rollback_lets_go_what_was_held_back(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    bench.receive(phantom)
    assert bench.dispatcher.run_once()
    assert bench.standing() == [] and [row.state for row in bench.jobs("status")] == ["queued"]
    bench.store.close()
    assert downgrade(bench.settings, "0013") == ["0014"]
    assert upgrade(bench.settings) == REVISION
    bench.store = open_store(bench.settings)
    assert [row.role for row in bench.standing()] == ["status"]
    assert [row.state for row in bench.jobs("status")] == ["cancelled"]


@on_sqlite
def test_a_cancelled_status_lets_go_what_was_held_back(make: Make, phantom: tuple[Path, ...]) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    bench.receive(phantom)
    assert bench.dispatcher.run_once()
    (status,) = bench.jobs("status")
    assert status.state == "queued" and bench.standing() == []
    actions.cancel(bench.settings, bench.store, status.id, by=Actor("operator", "console"))
    assert [row.job_id for row in bench.standing()] == [bench.jobs("run")[0].id]
    with bench.store.read() as connection:
        assert f"status job {status.id} cancelled" in tell(connection, bench.jobs("run")[0].study_uid)


@on_sqlite
def test_a_status_that_a_correction_takes_back_lets_go_what_was_held_of_other_runs(
    make: Make, phantom: tuple[Path, ...]
) -> None:
    bench = make(NEGATIVE_A, NEGATIVE_B)
    study = bench.receive(phantom)
    while bench.dispatcher.run_once():
        pass
    (status,) = bench.jobs("status")
    first, second = bench.jobs("run")
    only = "of-the-second-run.dcm"
    with bench.store.write() as connection:
        for job in (second, status):
            files = {**job.specification, "files": [*job.specification["files"], only]}
            connection.execute(update(job_rows).where(job_rows.c.id == job.id).values(specification=files))
        taken = correction.take_back(connection, time.time(), study_uid=study, path=only, changed=["SeriesNumber"])
    assert set(taken) == {second.id, status.id}
    assert {row.job_id for row in bench.standing()} == {first.id}
