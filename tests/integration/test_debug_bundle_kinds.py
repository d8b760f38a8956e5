"""Debug bundles of runs that looked at more than one study's images, or at what a reader drew; and of those that give none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from node.archive import tables
from node.cli import main
from tests.integration.test_earlier_image import ChestBench, bench, radiograph  # noqa: F401  (fixture)
from tests.integration.test_requests import Reader, _boxes, _slices, reader  # noqa: F401  (fixture)

pytestmark = pytest.mark.slow


def _bundle(bench: ChestBench, job: int, path: Path) -> int:  # noqa: F811
    return main(["--config", str(bench.config), "models", "debug-bundle", str(job), "--out", str(path)])


def _replayed(bench: ChestBench, path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:  # noqa: F811
    capsys.readouterr()
    assert main(["--config", str(bench.config), "models", "replay", str(path)]) in (0, 1)
    return json.loads(capsys.readouterr().out)


def test_a_run_beside_an_earlier_image(
    bench: ChestBench,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = bench.run(radiograph(tmp_path, "first", 0.2, "20260101"))
    beside = bench.run(radiograph(tmp_path, "second", 0.8, "20260201"))
    for job, roles in ((alone, {"image"}), (beside, {"image", "prior"})):
        path = tmp_path / f"{job['id']}.zip"
        assert _bundle(bench, job["id"], path) == 0
        with zipfile.ZipFile(path) as opened:
            manifest = json.loads(opened.read("bundle.json"))
            everything = b"".join(opened.read(name) for name in opened.namelist())
        assert len(manifest["inputs"]) == len(roles) and ("prior" in manifest["inputs"]) == ("prior" in roles)
        assert b"CHEST-1" not in everything and b"Chest^One" not in everything
        report = _replayed(bench, path, capsys)
        assert report["differences"] == [], report["now"]
        assert report["now"]["findings"] == report["then"]["findings"]
    # Without the earlier image the answer is another: a bundle that left it out would not come out the same.
    assert alone["findings"] != beside["findings"]


def test_an_earlier_image_that_is_gone_gives_no_bundle(
    bench: ChestBench,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench.run(radiograph(tmp_path, "first", 0.2, "20260101"))
    beside = bench.run(radiograph(tmp_path, "second", 0.8, "20260201"))
    with bench.store.write() as connection:
        connection.execute(
            update(tables.instances)
            .where(tables.instances.c.study_uid == beside["evidence"]["earlier_study_uid"])
            .values(active=False)
        )
    capsys.readouterr()
    assert _bundle(bench, beside["id"], tmp_path / "gone.zip") == 1
    assert "earlier image" in capsys.readouterr().err
    assert not (tmp_path / "gone.zip").exists()


def test_a_question_gives_no_bundle(
    bench: ChestBench,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = bench.run(radiograph(tmp_path, "first", 0.2, "20260101"))
    with bench.store.write() as connection:
        row = connection.execute(tables.jobs.select().where(tables.jobs.c.id == job["id"])).one()
        asked = {**row.specification, "question": "order"}
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job["id"]).values(specification=asked))
    capsys.readouterr()
    assert _bundle(bench, job["id"], tmp_path / "asked.zip") == 2
    assert "may name the patient" in capsys.readouterr().err
    assert not (tmp_path / "asked.zip").exists()


@pytest.mark.timeout(120)
def test_what_a_reader_drew_is_replayed(reader: Reader, tmp_path: Path) -> None:  # noqa: F811
    reader.send(*reader.study.files)
    box = next(iter(_boxes(reader.study).values()))[0]
    drawn = reader.draw(box, _slices(reader.trace)[box.slice_index], tmp_path / "drawn")
    reader.send(drawn)
    (run,) = reader.answered(1)
    path = tmp_path / "drawn.zip"
    made = reader.node.cli("models", "debug-bundle", str(run.id), "--out", str(path))
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(path) as opened:
        manifest = json.loads(opened.read("bundle.json"))
    (prompt,) = manifest["prompts"]
    # The axes of the grid may be turned; what was drawn has its size whichever way round.
    size = sorted((prompt["bottom"] - prompt["top"], prompt["right"] - prompt["left"]))
    assert size == pytest.approx(sorted((box.bottom - box.top, box.right - box.left)), abs=0.01)
    again = reader.node.cli("models", "replay", str(path))
    report = json.loads(again.stdout)
    assert again.returncode == 0 and report["differences"] == []
    assert report["then"]["outcome"] == "found" and report["now"]["mask_sha256"] == report["then"]["mask_sha256"]
