"""An earlier radiograph beside the current one, through spool, dispatcher and child: BioViL-T and a known answer."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from node.archive import priors
from node.archive.engine import open_store
from node.archive.headers import read_header
from node.archive.priors import PriorFile
from node.cli import main
from node.identity import load_identity
from node.jobs import queue
from node.jobs.dispatcher import Dispatcher
from node.jobs.executors.local import LocalExecutor
from node.settings import load
from tests.generators.radiographs import write_radiograph
from tests.integration.test_node_jobs import Bench
from tests.migrated import upgrade
from tests.unit.models_image_text.test_image_text import write_model

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
stat_slot = false
[models]
folders = ["SITE"]
require_approval = false
[profile.default]
objects = ["measurements", "text"]
text_documents = "shown_as_draft"
languages = ["en", "ja"]
[destination.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 1
[[rule]]
name = "chest"
model = "MODEL"
destinations = ["pacs"]
"""
EARLIER = """
[[inputs]]
role = "prior"
kind = "projection"
modality = "CR|DX"
required = false
earlier = true
"""


class ChestBench(Bench):
    """A node without network whose rule runs a model on radiographs."""

    def __init__(self, folder: Path, model: str) -> None:
        self.config = folder / "node.toml"
        self.config.write_text(CONFIG.replace("MODEL", model).replace("SITE", str(folder / "site")))
        self.settings = load(self.config)
        upgrade(self.settings)
        self.store = open_store(self.settings)
        self.executor = LocalExecutor(self.settings)
        self.dispatcher = Dispatcher(self.settings, self.store, self.executor, load_identity(self.settings))

    def run(self, image: Path) -> dict[str, Any]:
        """Receive an image, run its job, and give the job's result."""
        study = self.receive((image,))
        while self.dispatcher.run_once():
            pass
        with self.store.read() as connection:
            (row,) = queue.list_jobs(connection, study_uid=study)
        assert row.state == "done", (row.state, row.message)
        return {"id": row.id, **row.result}

    def fetch(self, image: Path) -> None:
        """File an image as one that was fetched from the archive for an order."""
        relative = f"aa/{image.name}"
        target = self.settings.data_dir / priors.FOLDER / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, target)
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        with self.store.write() as connection:
            file = PriorFile(relative, digest, image.stat().st_size)
            root = self.settings.data_dir / priors.FOLDER
            assert priors.record(connection, time.time(), read_header(image), file, root=root)

    def close(self) -> None:
        self.executor.close()
        self.store.close()


def radiograph(folder: Path, name: str, level: float, date: str, **attributes: str) -> Path:
    """A radiograph of one brightness; patient and day by attribute."""
    values = np.full((40, 40), round(level * 4095), np.uint16)
    dates = {"StudyDate": date, "AcquisitionDate": date, "ContentDate": date}
    patient = {"PatientID": "CHEST-1", "PatientName": "Chest^One", "PatientBirthDate": "19500101"}
    return write_radiograph(folder / f"{name}.dcm", values, study=name, instance=name, **(dates | patient | attributes))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ChestBench]:
    folder = write_model(tmp_path / "site" / "known")
    card = folder / "model.toml"
    card.write_text(card.read_text().replace("\n[graphs.main]", f"{EARLIER}\n[graphs.main]", 1))
    made = ChestBench(tmp_path, "known-phrases")
    yield made
    made.close()


def test_the_latest_earlier_radiograph_is_looked_at(bench: ChestBench, tmp_path: Path) -> None:
    """Brighter than before is what the known model looks for: it can only tell beside an earlier image."""
    first = bench.run(radiograph(tmp_path, "first", 0.7, "20260101"))
    assert first["evidence"]["earlier_image"] is False
    darker = bench.run(radiograph(tmp_path, "second", 0.2, "20260201"))
    assert darker["evidence"]["earlier_study_date"] == "20260101"
    brighter = bench.run(radiograph(tmp_path, "third", 0.8, "20260301"))
    assert brighter["evidence"]["earlier_study_date"] == "20260201"
    present = {each["concept"]["meaning"]: each["present"] for each in brighter["findings"]}
    assert present["Pleural effusion"] is True
    texts = [dcmread(bench.settings.data_dir / "outbox" / row.path) for row in bench.objects(brighter["id"])]
    said = "\n".join(json.dumps(each.to_json_dict(), ensure_ascii=False) for each in texts)
    assert "beside an earlier one" in said and "過去画像と併せて" in said
    assert len({each["work_key"] for each in (first, darker, brighter)}) == 3
    # A later study is no earlier one.
    again = bench.run(radiograph(tmp_path, "older", 0.9, "20251201"))
    assert again["evidence"]["earlier_image"] is False


def test_one_that_was_fetched_for_an_order_will_do(bench: ChestBench, tmp_path: Path) -> None:
    bench.fetch(radiograph(tmp_path / "archive", "fetched", 0.1, "20250601"))
    result = bench.run(radiograph(tmp_path, "now", 0.8, "20260301"))
    assert result["evidence"]["earlier_study_date"] == "20250601"
    assert {each["concept"]["meaning"]: each["present"] for each in result["findings"]}["Pleural effusion"] is True


@pytest.mark.parametrize(
    "who",
    [
        {"PatientName": "Somebody^Else"},
        {"PatientBirthDate": "19600202"},
        {"PatientID": "CHEST-2"},
        {"ViewPosition": "LL"},
        {"Modality": "MG"},
    ],
    ids=["name", "birth date", "id", "view", "modality"],
)
def test_what_may_be_another_patients_or_view_is_not_looked_at(
    bench: ChestBench, tmp_path: Path, who: dict[str, str]
) -> None:
    card = tmp_path / "site" / "known" / "model.toml"
    card.write_text(card.read_text().replace('modality = "CR|DX"', 'modality = "CR|DX"\nviews = ["PA", "AP"]'))
    bench.fetch(radiograph(tmp_path / "archive", "fetched", 0.1, "20250601", **who))
    result = bench.run(radiograph(tmp_path, "now", 0.8, "20260301"))
    assert result["evidence"]["earlier_image"] is False
    assert "earlier_study_uid" not in result["evidence"]


@pytest.mark.slow
def test_biovil_t_with_and_without(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="conversion needs torch")
    pytest.importorskip("onnxscript", reason="conversion needs onnxscript")
    from models.export.biovil_t import convert
    from tests.unit.models_image_text.test_biovil_t_import import write_released

    source, folder = tmp_path / "released", tmp_path / "site" / "biovil-t"
    source.mkdir()
    folder.mkdir(parents=True)
    convert(write_released(source), folder)
    bench = ChestBench(tmp_path, "biovil-t")
    rng = np.random.default_rng(5)
    patient = {"PatientID": "CHEST-1", "PatientName": "Chest^One", "PatientBirthDate": "19500101"}

    def textured(name: str, date: str, who: dict[str, str], seed: int) -> Path:
        values = np.random.default_rng(seed).integers(0, 4096, (520, 560)).astype(np.uint16)
        dates = {"StudyDate": date, "AcquisitionDate": date}
        return write_radiograph(tmp_path / f"{name}.dcm", values, study=name, instance=name, **(dates | who))

    seed = int(rng.integers(1000))
    alone = bench.run(textured("alone", "20260301", {**patient, "PatientID": "CHEST-9"}, seed))
    bench.fetch(textured("before", "20250601", patient, seed + 1))
    beside = bench.run(textured("beside", "20260301", patient, seed))
    assert (alone["evidence"]["earlier_image"], beside["evidence"]["earlier_image"]) == (False, True)
    assert alone["findings"][0]["concept"]["meaning"] == beside["findings"][0]["concept"]["meaning"] == "Pneumonia"
    assert alone["findings"][0]["probability"] != beside["findings"][0]["probability"]
    bench.close()


@pytest.mark.parametrize("enabled", [False, True])
def test_similar_studies_are_listed_here_only(
    bench: ChestBench, tmp_path: Path, capsys: pytest.CaptureFixture[str], enabled: bool
) -> None:
    """Off by default; a list of keys for who asks; gone when forgotten; in no object."""
    if enabled:
        bench.config.write_text(bench.config.read_text() + "[similar]\nenabled = true\nminimum_cosine = 0.1\n")
        bench.settings = load(bench.config)
        bench.dispatcher = Dispatcher(bench.settings, bench.store, bench.executor, load_identity(bench.settings))
    results, studies = [], []
    for number, level in enumerate((0.3, 0.6, 0.9)):
        image = radiograph(tmp_path, f"s{number}", level, f"2026010{number + 1}", PatientID=f"ALIKE-{number}")
        results.append(bench.run(image))
        studies.append(str(dcmread(image).StudyInstanceUID))

    def listed() -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main(["--config", str(bench.config), "similar", "list", studies[0], "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    found = listed()
    assert len(found) == (2 if enabled else 0)
    assert main(["--config", str(bench.config), "why", studies[0]]) == 0
    story = capsys.readouterr().out
    assert ("similar studies of this hospital" in story) is enabled
    for other in ("ALIKE-1", "ALIKE-2", studies[1], studies[2]):
        assert other not in json.dumps(found) + story
    keys = [each["study"] for each in found]
    for result in results:
        for row in bench.objects(result["id"]):
            content = (bench.settings.data_dir / "outbox" / row.path).read_bytes()
            assert not any(key.encode() in content for key in keys)
    assert main(["--config", str(bench.config), "similar", "forget", studies[1]]) == 0
    assert len(listed()) == (1 if enabled else 0)
