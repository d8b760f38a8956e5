"""Weights that do not fit into one file lie beside the graph, are pinned, and are looked at before they are loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.adapters.reading import ReadingAdapter
from models.errors import DigestMismatch
from models.model import Model

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="the checkpoint is made by transformers")

from models.export import graph_export, llava_med  # noqa: E402
from models.export.smaller_weights import to_smaller  # noqa: E402
from tests.unit.models_generation import references  # noqa: E402
from tests.unit.models_generation.test_reading_adapter import shortened  # noqa: E402

pytestmark = pytest.mark.slow


def test_weights_beside_the_graph_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The decoder alone is above this size; vision is below.
    checkpoint, folder = tmp_path / "in", tmp_path / "out"
    reference = references.llava(checkpoint, llama=False)
    folder.mkdir()
    weights = sum(v.numel() * 4 for v in reference.model.model.language_model.layers.parameters())
    monkeypatch.setattr(graph_export, "LARGEST_FILE", weights)
    imported = llava_med.convert(checkpoint, folder)
    report = imported.report()
    assert report["graphs"]["decoder.onnx"]["exporter"] == "dynamo"
    assert max(report["graphs"]["decoder.onnx"]["relative_differences"]) < 1e-4
    model = Model(folder, threads=1)
    data = folder / model.card.files["decoder_data"].file
    assert data.stat().st_size >= weights
    model.self_test()
    eight = tmp_path / "int8"
    shutil.copytree(folder, eight)
    # The vocabulary of the card's prompt is not the small model's; any question does.
    monkeypatch.setattr(ReadingAdapter, "question", lambda *_, **__: "abc")
    shortened(eight)
    made = to_smaller(imported, eight, "int8", most_changed=1.0)
    assert made.weights["bytes"] < 0.6 * made.weights["bytes_float"]
    small = Model(eight, threads=1)
    small.verify()
    small.self_test()
    pinned = {file.file for name, file in small.card.files.items() if name.endswith("_data")}
    assert "decoder-int8.onnx.data" in pinned and "decoder.onnx.data" not in pinned
    assert {each.name for each in eight.glob("*.data")} == pinned
    half = tmp_path / "fp16"
    shutil.copytree(folder, half)
    shortened(half)
    made = to_smaller(imported, half, "fp16", most_changed=1.0)
    assert set(made.weights["graphs"]) == {"embed", "decoder"} and made.weights["drift"]["changed"] < 0.2
    assert made.weights["bytes"] < 0.7 * made.weights["bytes_float"]
    halved = Model(half, threads=1)
    halved.verify()
    halved.self_test()
    beside = {file.file for name, file in halved.card.files.items() if name.endswith("_data")}
    assert {"decoder-fp16.onnx.data", "embed-fp16.onnx.data"} < beside
    assert {each.name for each in half.glob("*.data")} == beside
    four = tmp_path / "int4"
    shutil.copytree(folder, four)
    shortened(four)
    made = to_smaller(imported, four, "int4", most_changed=1.0)
    assert set(made.weights["graphs"]) == {"embed", "decoder"}
    assert made.weights["bytes"] < 0.5 * made.weights["bytes_float"]
    quartered = Model(four, threads=1)
    quartered.verify()
    quartered.self_test()
    beside = {file.file for name, file in quartered.card.files.items() if name.endswith("_data")}
    assert "decoder-int4.onnx.data" in beside and {each.name for each in four.glob("*.data")} == beside
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(DigestMismatch, match="data"):
        Model(folder).session("decoder")
