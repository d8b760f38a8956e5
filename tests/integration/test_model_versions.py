"""A new version of a model takes over from another while the node runs, and makes way for it again."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread

from models.card import EMBEDDED
from node.archive import approvals
from node.cli import main
from node.doctor import contents
from node.identity import load_identity
from node.jobs import queue
from node.jobs.briefing import Briefing
from node.jobs.queue import LeasedJob
from node.jobs.specification import ObjectReference, ResultBundle, Retraction
from node.web.model_view import model_views
from tests.dispatch_bench import small_studies
from tests.integration.test_node_jobs import ROOT, Bench
from tests.web_scene import open_to_everybody

OLD, NEW = "1.0.0", "2.0.0"


def install(folder: Path, version: str) -> None:
    """The catalogue's threshold model as a site's own, in one of its versions."""
    shutil.copytree(EMBEDDED / "infarct-adc-baseline", folder)
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    assert 'version = "1.2.0"' in text
    text = text.replace('id = "infarct-adc-baseline"', 'id = "site"').replace("1.2.0", version)
    card.write_text(text, encoding="utf-8")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for version in (OLD, NEW):
        install(tmp_path / "site" / f"infarct-{version}", version)
    made = Bench(tmp_path, "real-site", f'[models]\nfolders = ["{tmp_path / "site"}"]', model="site")
    yield made
    made.executor.close()
    made.store.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, ...]]:
    return small_studies(tmp_path_factory.mktemp("studies"), range(31, 35))


def words(bench: Bench, *rest: str) -> list[str]:
    return ["--config", str(bench.config), "models", *rest]


def approve(bench: Bench, model: str) -> int:
    return main(words(bench, "approve", model, "--by", "Dr Test", "--accept-licence"))


def ran(bench: Bench, files: tuple[Path, ...]) -> str:
    """Version that made the result of a study."""
    study = bench.receive(files)
    while bench.dispatcher.run_once():
        pass
    (row,) = [each for each in jobs_of(bench, study) if each.kind == "run"]
    return version_of(bench, row)


def jobs_of(bench: Bench, study: str) -> list[Any]:
    with bench.store.read() as connection:
        return list(queue.list_jobs(connection, study_uid=study))


def version_of(bench: Bench, row: Any) -> str:
    """What its objects say of the algorithm's version."""
    texts = [bench.text_of(each) for each in bench.objects(row.id)]
    (found,) = [version for version in (OLD, NEW) if any(f'"{version}"' in text for text in texts)]
    return found


def leased(bench: Bench, files: tuple[Path, ...]) -> LeasedJob:
    """The run of a study that has come, as a dispatcher takes it."""
    bench.receive(files)
    with bench.store.write() as connection:
        job = queue.lease(connection, time.time() + 1.0, owner="test", lease_seconds=600.0)
    assert job is not None
    return job


def test_promoted_and_rolled_back_without_a_restart(bench: Bench, studies: list[tuple[Path, ...]]) -> None:
    assert approve(bench, f"site@{OLD}") == 0
    assert ran(bench, studies[0]) == OLD
    child = bench.executor.child_pid
    assert approve(bench, f"site@{NEW}") == 0
    assert ran(bench, studies[1]) == NEW
    assert main(words(bench, "rollback", "site", "--by", "Dr Test")) == 0
    assert ran(bench, studies[2]) == OLD
    assert bench.executor.child_pid == child


def test_a_run_ends_on_the_version_it_began_with(bench: Bench, studies: list[tuple[Path, ...]], tmp_path: Path) -> None:
    assert approve(bench, f"site@{OLD}") == 0
    job = leased(bench, studies[0])
    spec = Briefing(bench.settings, bench.store, load_identity(bench.settings)).specify(job, tmp_path / "work")
    assert approve(bench, f"site@{NEW}") == 0
    bundle = bench.executor.run(spec, abandoned=lambda: False)
    assert bundle.failure is None, bundle.failure
    written = [json.dumps(dcmread(each.path).to_json_dict()) for each in bundle.objects]
    assert any(f'"{OLD}"' in each for each in written) and not any(f'"{NEW}"' in each for each in written)


def test_what_is_written_of_a_version_asks_no_other_one(
    bench: Bench, studies: list[tuple[Path, ...]], tmp_path: Path
) -> None:
    """Alternative sets of its results, and notes that they were replaced, whatever has become of the model since."""
    assert approve(bench, f"site@{OLD}") == 0
    job = leased(bench, studies[0])
    briefing = Briefing(bench.settings, bench.store, load_identity(bench.settings))
    spec = briefing.specify(job, tmp_path / "work")
    first = bench.executor.run(spec, abandoned=lambda: False)
    assert first.failure is None and first.stored is not None
    assert approve(bench, f"site@{NEW}") == 0
    # The one that serves now answers nothing any more.
    (tmp_path / "site" / f"infarct-{NEW}" / "main.onnx").write_bytes(b"no graph")

    def again(name: str, **changes: Any) -> ResultBundle:
        (tmp_path / name).mkdir()
        changes["output_dir"] = tmp_path / name
        changes["approved"] = briefing.approved()
        return bench.executor.run(spec.model_copy(update=changes), abandoned=lambda: False)

    assert (failed := again("run").failure) is not None and failed.code == "MOD-002"
    render = again("render", stored=first.stored)
    assert render.failure is None, render.failure
    assert [each.sop_instance_uid for each in render.objects] == [each.sop_instance_uid for each in first.objects]
    shutil.rmtree(tmp_path / "site" / f"infarct-{OLD}")
    shutil.rmtree(tmp_path / "site" / f"infarct-{NEW}")
    names = {*ObjectReference.model_fields}
    taken = [ObjectReference(**each.model_dump(include=names)) for each in first.objects]
    note = again("note", retraction=Retraction(objects=taken, moment="2026-01-31 03:12", run=1))
    assert note.failure is None, note.failure
    assert note.outcome == "retracted" and note.objects


def test_a_debug_bundle_knows_the_version_that_ran(
    bench: Bench, studies: list[tuple[Path, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert approve(bench, f"site@{OLD}") == 0
    study = bench.receive(studies[0])
    while bench.dispatcher.run_once():
        pass
    (job,) = [each for each in jobs_of(bench, study) if each.kind == "run"]
    assert approve(bench, f"site@{NEW}") == 0
    for folder, same in ((None, True), (tmp_path / "site" / f"infarct-{OLD}", False)):
        if folder is not None:
            shutil.rmtree(folder)
        bundle = tmp_path / f"{same}.zip"
        assert main(words(bench, "debug-bundle", str(job.id), "--out", str(bundle))) == 0
        capsys.readouterr()
        assert main(words(bench, "replay", str(bundle))) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["same_model"], report["then"]["outcome"], report["differences"]) == (same, "found", [])


def test_a_stored_result_is_written_on_its_own_images_only(
    bench: Bench, studies: list[tuple[Path, ...]], tmp_path: Path
) -> None:
    """Another version may choose another series of a study; here another study of the same size stands for it."""
    assert approve(bench, f"site@{OLD}") == 0
    job = leased(bench, studies[0])
    spec = Briefing(bench.settings, bench.store, load_identity(bench.settings)).specify(job, tmp_path / "work")
    first = bench.executor.run(spec, abandoned=lambda: False)
    assert first.failure is None and first.stored is not None
    moved = []
    for file in spec.files:
        dataset = dcmread(file)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 30.0]
        moved.append(tmp_path / "moved" / file.name)
        moved[-1].parent.mkdir(exist_ok=True)
        dataset.save_as(moved[-1])
    (tmp_path / "render").mkdir()
    changes = {"stored": first.stored, "files": moved, "output_dir": tmp_path / "render"}
    failed = bench.executor.run(spec.model_copy(update=changes), abandoned=lambda: False).failure
    assert failed is not None and failed.code == "MOD-010"


def test_an_id_with_no_approved_version_runs_nothing(bench: Bench, studies: list[tuple[Path, ...]]) -> None:
    study = bench.receive(studies[3])
    while bench.dispatcher.run_once():
        pass
    (run,) = [each for each in jobs_of(bench, study) if each.kind == "run"]
    assert run.error_code == "MOD-034"


def test_command_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    # Which of them is meant has to be said, and the one that serves is not approved again by accident.
    assert approve(bench, "site") == 1
    assert "MOD-034" in capsys.readouterr().err
    assert main(words(bench, "rollback", "site", "--by", "Dr Test")) == 2
    assert approve(bench, f"site@{OLD}") == 0
    assert main(words(bench, "rollback", "site", "--by", "Dr Test")) == 2
    capsys.readouterr()
    assert main(words(bench, "list", "--json")) == 0
    listed = [each for each in json.loads(capsys.readouterr().out) if each["model"] == "site"]
    assert [(each["version"], each["status"]) for each in listed] == [(OLD, "runs"), (NEW, "beside")]
    assert main(words(bench, "info", "site")) == 0
    assert json.loads(capsys.readouterr().out)["version"] == OLD
    assert main(words(bench, "info", f"site@{NEW}")) == 0
    assert json.loads(capsys.readouterr().out)["version"] == NEW
    assert main(words(bench, "verify")) == 0
    told = capsys.readouterr().out
    assert f"site@{NEW}: good" in told and "smooth: dwi [slices, rows, columns], adc [slices, rows, columns]" in told


def test_the_doctor_and_the_console_know_which_one_serves(bench: Bench) -> None:
    assert approve(bench, f"site@{NEW}") == 0
    assert "1 named by rules, whole and approved" in contents.models(bench.settings)
    with bench.store.read() as connection:
        found = [each for each in model_views(connection, 0.0, bench.settings).models if each.card.id == "site"]
    assert [(each.card.version, each.approval, each.may_serve) for each in found] == [
        (OLD, "beside", False),
        (NEW, "approved", True),
    ]
    assert [each.rules for each in found] == [(), ("real-site",)]


def test_what_was_approved_before_may_be_gone(bench: Bench, tmp_path: Path) -> None:
    for version in (OLD, NEW):
        assert approve(bench, f"site@{version}") == 0
    shutil.rmtree(tmp_path / "site" / f"infarct-{OLD}")
    assert main(words(bench, "rollback", "site", "--by", "Dr Test")) == 2


def test_the_console_lets_one_version_take_over_from_the_other(bench: Bench) -> None:
    assert approve(bench, f"site@{OLD}") == 0
    with TestClient(open_to_everybody(bench.settings, bench.store), base_url="https://testserver") as client:
        page = client.get("/models").text
        identifiers = re.findall(r'\bid="([^"]+)"', page)
        assert len(set(identifiers)) == len(identifiers)
        assert page.count("another version serves") == 1
        section = page.split(f"site {NEW}")[1]
        assert "Approve this version in place of the other" in section
        (digest,) = set(re.findall(r'name="digest" value="([0-9a-f]{64})"', section.split("</section>")[0]))
        fields = {"form_token": "", "digest": digest, "accepted": "yes"}
        client.post("/models/site/approve", data=fields, follow_redirects=False)
    with bench.store.read() as connection:
        assert approvals.current(connection) == {"site": digest}
