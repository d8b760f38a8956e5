"""`ainode models import` as the engineer types it: a checkpoint becomes a model that verifies and runs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelImportFailed
from models.export.steps import Step
from node import model_import
from node.cli import main

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from tests.unit.models_promptable.test_medsam_import import small_sam  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pth"
    torch.save(small_sam().state_dict(), path)
    return path


def test_import_verify_list(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "site" / "medsam"
    assert main(["models", "import", "medsam", str(checkpoint), "--out", str(folder)]) == 0
    said, steps = capsys.readouterr()
    assert "none missing, none left over" in said
    assert "differs from torch" in said
    told = [line for line in steps.splitlines() if re.match(r"\d+/\d+ ", line)]
    assert told[0] == "1/9 read the checkpoint" and told[1] == "2/9 check its keys" and told[-1] == "9/9 write the card"
    assert {each.partition(" ")[0] for each in told} == {f"{n}/9" for n in range(1, 10)}, (
        "known beforehand, none left out"
    )
    assert "decoder.onnx: compare with the original (3 of 3 sizes)" in told[-3]
    report = json.loads((folder / "import.json").read_text())
    assert report["checkpoint"] == "small.pth"
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{folder.parent}"]\n')
    assert main(["--config", str(config), "models", "verify", "medsam"]) == 0
    graphs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert len(graphs) == len(report["graphs"]) and all("from the original at" in each for each in graphs)
    assert main(["--config", str(config), "models", "verify", "stroke-dwi-medsam"]) == 0
    # No trace of the machine it was made on leaves with the model.
    for graph in folder.glob("*.onnx"):
        assert str(tmp_path).encode() not in graph.read_bytes()
        assert b"site-packages" not in graph.read_bytes()


def test_a_refused_checkpoint_leaves_nothing(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = torch.load(checkpoint, weights_only=True)
    del tensors["image_encoder.neck.0.weight"]
    torch.save(tensors, checkpoint)
    folder = tmp_path / "site" / "medsam"
    assert main(["models", "import", "medsam", str(checkpoint), "--out", str(folder)]) == 1
    assert "MOD-012" in capsys.readouterr().err
    assert list((tmp_path / "site").iterdir()) == []


def test_whoever_waits_may_give_up(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    real = subprocess.Popen

    def noted(command: list[str], *words: Any, **more: Any) -> Any:
        child = real(command, *words, **more)
        pids.append(child.pid)
        return child

    monkeypatch.setattr(model_import.subprocess, "Popen", noted)

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "site" / "medsam"
    with pytest.raises(KeyboardInterrupt):
        model_import.import_model("medsam", checkpoint, folder, hears=stop)
    monkeypatch.setattr(model_import, "_SECONDS", 0.3)
    with pytest.raises(ModelImportFailed, match="took longer than"):
        model_import.import_model("medsam", checkpoint, folder)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids) and not list(folder.parent.iterdir())


def test_wrong_use_is_told_apart(tmp_path: Path, checkpoint: Path) -> None:
    assert main(["models", "import", "medgpt", str(checkpoint), "--out", str(tmp_path / "x")]) == 2
    assert main(["models", "import", "medsam", str(checkpoint), "--out", str(tmp_path)]) == 2
    out = ["--out", str(tmp_path / "y")]
    assert main(["models", "import", "medsam", str(checkpoint), "--weights", "int2", *out]) == 2
    assert main(["models", "import", "medsam", str(checkpoint), "--most-changed", "2", *out]) == 2
