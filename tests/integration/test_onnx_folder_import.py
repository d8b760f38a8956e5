"""`ainode models import onnx-folder` as the engineer types it, on to a radiograph's findings in report and text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydicom import dcmread

pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="conversion needs transformers")

from node.cli import main
from tests.generators.photographs import write_photograph
from tests.generators.radiographs import write_radiograph
from tests.integration.test_radiograph_findings import FINDING, PROBABILITY, groups, half_bright, text_of
from tests.unit.models_onnx_folder import folders

pytestmark = pytest.mark.slow
NAMES = ("NORMAL", "EFFUSION", "PNEUMOTHORAX")


def known_graph(path: Path) -> None:
    """Logits of NORMAL: 0; of EFFUSION and PNEUMOTHORAX: 8 × the mean of the left and of the right half, in [-1, 1]."""
    halves = np.zeros((3, 3, 32, 32), np.float32)
    halves[1, :, :, :16] = halves[2, :, :, 16:] = 8 / (3 * 512)
    nodes = [
        helper.make_node("Conv", ["pixel_values", "halves"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", "channels", "height", "width"])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "main", [given], [made], [numpy_helper.from_array(halves, "halves")])
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    known_graph(folder / "onnx" / "model.onnx")
    config = {"id2label": dict(enumerate(NAMES)), "problem_type": "single_label_classification"}
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    folders.write_card(folder, folders.card())
    return folder


def configured(tmp_path: Path) -> list[str]:
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["measurements", "text"]\nlanguages = ["en"]\n'
        'text_documents = "shown_as_draft"\nmaximum_series = 4\n'
    )
    return ["--config", str(config)]


def probabilities(report: Any) -> dict[str, float]:
    return {
        group[FINDING].ConceptCodeSequence[0].CodeMeaning: float(
            group[PROBABILITY].MeasuredValueSequence[0].NumericValue
        )
        for group in groups(report)
    }


def test_from_folder_to_report(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site" / "published"
    assert main(["models", "import", "onnx-folder", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "NOT compared with the original: no model.safetensors" in said
    assert "published: from onnx/model.onnx" in said
    config = configured(tmp_path)
    assert main([*config, "models", "verify", "published"]) == 0
    # Twice as wide as high: its middle square is bright on the left, dim on the right.
    middle = half_bright("left")
    image = write_radiograph(tmp_path / "in" / "a.dcm", np.hstack([middle[:, 32:], middle, middle[:, :32]]))
    made = tmp_path / "made"
    assert (
        main([*config, "process", str(image), "--out", str(made), "--model", "published", "--profile", "default"]) == 0
    )
    found = probabilities(dcmread(made / "measurements-findings.dcm"))
    levels = [int(each / 4095 * 255) / 127.5 - 1 for each in (3900, 300)]
    spread = np.exp([0.0, 8 * levels[0], 8 * levels[1]])
    assert found["Pleural effusion"] == pytest.approx(spread[1] / spread.sum(), abs=5e-3)
    assert found["Pneumothorax"] == pytest.approx(spread[2] / spread.sum(), abs=5e-3)
    assert "AI flags: Pleural effusion." in text_of(dcmread(made / "text-en.dcm"))


def test_a_photograph_reaches_a_report(tmp_path: Path, source: Path) -> None:
    content = folders.card()
    folders.write_card(source, {**content, "inputs": [{"role": "image", "kind": "photograph", "modality": "OP"}]})
    assert main(["models", "import", "onnx-folder", str(source), "--out", str(tmp_path / "site" / "published")]) == 0
    colours = np.full((60, 60, 3), 20, np.uint8)
    colours[:, 30:] = (250, 240, 230)
    image = write_photograph(tmp_path / "in" / "a.dcm", colours)
    words = ["process", str(image), "--out", str(tmp_path / "made"), "--model", "published", "--profile", "default"]
    assert main([*configured(tmp_path), *words]) == 0
    assert "AI flags: Pneumothorax." in text_of(dcmread(tmp_path / "made" / "text-en.dcm"))


def test_what_is_refused_leaves_nothing(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = source / "onnx" / "model.onnx"
    graph.rename(graph.with_name("model_q4.onnx"))
    out = ["--out", str(tmp_path / "site" / "published")]
    assert main(["models", "import", "onnx-folder", str(source), *out]) == 1
    assert "--variant q4" in capsys.readouterr().err
    assert not any((tmp_path / "site").iterdir())
    assert main(["models", "import", "onnx-folder", str(source), *out, "--variant", "q4"]) == 0
    assert json.loads((tmp_path / "site" / "published" / "import.json").read_text())["weights"] == {"kind": "q4"}


def test_wrong_use_is_told_apart(tmp_path: Path, source: Path) -> None:
    out = ["--out", str(tmp_path / "x")]
    assert main(["models", "import", "onnx-folder", str(source), *out, "--weights", "int8"]) == 2
    assert main(["models", "import", "onnx-folder", str(source), *out, "--variant", "../int8"]) == 2
    assert main(["models", "import", "medsam", str(source), *out, "--variant", "int8"]) == 2
