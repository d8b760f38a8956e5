"""Programs of external models, where the model host is shut in and asks for them: what it gets, and what it does not."""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom_sr.identity import OFFLINE
from node.confinement import landlock
from node.errors import DeadlineExceeded
from node.jobs.executors.local import LocalExecutor
from node.jobs.program_starts import ProgramStart
from node.jobs.room import Room
from node.jobs.specification import JobSpec
from node.settings import ExternalSection, ProfileSection, Settings
from tests.generators.volumes import write_series
from tests.unit.node_external.conftest import AFFINE, PYTHON, painted, write_card

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock: hosts are not shut in here"),
]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_series(tmp_path_factory.mktemp("series"), painted(), AFFINE, PatientName="Secret^Name")


def specification(folder: Path, files: list[Path], out: Path, **more: Any) -> JobSpec:
    out.mkdir(parents=True)
    return JobSpec(
        job_id=1,
        study_uid=str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID),
        rule="r",
        model_id=folder.name,
        model_folders=[folder.parent],
        files=files,
        profiles={"standard": ProfileSection()},
        languages=["en"],
        identity=OFFLINE,
        output_dir=out,
        deadline_seconds=more.pop("seconds", 120.0),
        external=ExternalSection(folders=PYTHON),
        **more,
    )


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = {"node": {"data_dir": tmp_path / "node"}, "models": {"folders": [tmp_path / "models"]}}
    made = LocalExecutor(Settings.model_validate({**settings, "external": {"folders": PYTHON}}))
    yield made
    made.close()


def test_a_host_that_is_shut_in_has_its_program_run(
    tmp_path: Path, series: list[Path], executor: LocalExecutor
) -> None:
    folder = write_card(tmp_path / "models" / "module", "threshold_module.py", settings={"threshold": 250})
    bundle = executor.run(specification(folder, series, tmp_path / "out"), abandoned=lambda: False)
    assert bundle.failure is None and bundle.outcome == "found", bundle.failure
    assert bundle.evidence["program"]["isolation"] == "namespaces"
    assert executor.confinement is not None and "files" in executor.confinement.holds
    (segmentation,) = [each for each in bundle.objects if each.sop_class_uid == "1.2.840.10008.5.1.4.1.1.66.4"]
    assert int(dcmread(segmentation.path).pixel_array.sum()) == int(np.sum(painted() > 250))
    (room,) = (tmp_path / "node" / "rooms").iterdir()
    assert not any(each for place in ("in", "out", "program") for each in (room / place).iterdir())


def test_a_program_that_hangs_dies_with_the_run(tmp_path: Path, series: list[Path], executor: LocalExecutor) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    folder = write_card(tmp_path / "models" / "bad", "misbehave.py", "fork", mark, "wait", deadline_seconds=100.0)
    executor.start()
    seen: list[bool] = []

    def look() -> bool:
        seen.append(_running(mark))
        return False

    with pytest.raises(DeadlineExceeded, match="while a program ran"):
        executor.run(specification(folder, series, tmp_path / "out", seconds=6.0), abandoned=look)
    until = time.monotonic() + 5
    while _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert any(seen) and not _running(mark)


def _running(mark: str) -> bool:
    for words in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in words.read_bytes():
                return True
        except OSError:
            continue  # it has just ended
    return False


class Scene:
    """The dispatcher's side, and a host that asks for what it likes."""

    def __init__(self, folder: Path, series: list[Path]) -> None:
        self.card = write_card(folder / "models" / "module", "misbehave.py", "report", "1.0", mask="none",
                               findings=[], measurements=[_MEASURED])  # fmt: skip
        self.room = Room(folder / "rooms")
        self.spec = specification(self.card, series, folder / "out")
        self.secret = folder / "secret"
        self.secret.mkdir()
        (self.secret / "file").write_text("not for a program")
        self.folder = self.room.outside / ".program-1"
        for name in ("input", "output", "model", "own"):
            (self.folder / name).mkdir(parents=True)
        shutil.copy(self.card / "misbehave.py", self.folder / "model" / "misbehave.py")
        (self.folder / "input" / "task.json").write_text("{}")

    def wish(self, **changed: Any) -> dict[str, Any]:
        run = {
            "model_id": "module",
            "folder": str(self.folder),
            "command": self.command(),
            "layout": "mercure",
            "seconds": 20.0,
            "memory_mb": 2048,
            "output_mb": 64,
            "tell": True,
        }
        return {"kind": "program", "run": run | changed}

    def command(self) -> list[str]:
        return [sys.executable, "{model}/misbehave.py", "report", "1.0"]

    def asked(self, wish: dict[str, Any]) -> dict[str, Any]:
        start = ProgramStart(self.spec, wish, ExternalSection(folders=PYTHON), self.room, None)
        assert start.done.wait(60)
        return start.reply


_MEASURED = {
    "key": "value",
    "name": {"value": "373098007", "scheme": "SCT", "meaning": "Mean"},
    "unit": {"value": "1", "scheme": "UCUM", "meaning": "no units"},
    "minimum": 0.0,
    "maximum": 10.0,
}


@pytest.fixture
def scene(tmp_path: Path, series: list[Path]) -> Scene:
    return Scene(tmp_path, series)


def test_the_card_s_own_program_is_started(scene: Scene) -> None:
    reply = scene.asked(scene.wish())
    assert reply.get("isolation") == "namespaces", reply
    assert (scene.folder / "output").is_dir() and not list(scene.room.program.iterdir())


def _other_program(scene: Scene) -> dict[str, Any]:
    (scene.folder / "model" / "misbehave.py").write_text("print('mine')")
    return scene.wish()


def _link_to_a_secret(scene: Scene) -> dict[str, Any]:
    shutil.rmtree(scene.folder / "input")
    (scene.folder / "input").symlink_to(scene.secret)
    return scene.wish()


def _folder_elsewhere(scene: Scene) -> dict[str, Any]:
    return scene.wish(folder=str(scene.secret))


def _folder_above(scene: Scene) -> dict[str, Any]:
    return scene.wish(folder=str(scene.room.outside / ".."))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda scene: scene.wish(command=["/bin/sh", "-c", "id"]), "another program"),
        (lambda scene: scene.wish(image="an/image@sha256:0"), "another program"),
        (lambda scene: scene.wish(model_id="unisolated-one"), "another program"),
        (lambda scene: scene.wish(seconds=5000.0), "more than"),
        (lambda scene: scene.wish(memory_mb=1 << 30), "more than"),
        (lambda scene: {"kind": "program", "run": {"command": 7}}, "words that are none"),
        (lambda scene: {"kind": "program"}, "words that are none"),
        (_other_program, "has changed"),
        (_link_to_a_secret, "something else"),
        (_folder_elsewhere, "not its own"),
        (_folder_above, "not its own"),
    ],
)
def test_a_host_that_asks_for_more_is_refused(
    scene: Scene, made: Callable[[Scene], dict[str, Any]], words: str
) -> None:
    reply = scene.asked(made(scene))
    assert reply["code"] == "EXT-001" and words in reply["message"], reply
    assert (scene.secret / "file").read_text() == "not for a program"


def test_a_start_that_is_cut_leaves_nothing(scene: Scene) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    shutil.rmtree(scene.card)
    scene.card = write_card(scene.card, "misbehave.py", "fork", mark, "wait", deadline_seconds=60.0)
    words = [*scene.command()[:2], "fork", mark, "wait"]
    start = ProgramStart(scene.spec, scene.wish(command=words), ExternalSection(folders=PYTHON), scene.room, None)
    until = time.monotonic() + 20
    while not _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert _running(mark)
    start.cut()
    until = time.monotonic() + 5
    while _running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _running(mark) and start.reply["code"] == "EXT-003"
