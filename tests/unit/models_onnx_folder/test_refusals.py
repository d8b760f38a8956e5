"""What such a folder may not be: unsafe, contradictory, silent on what matters, or of a model that writes text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.errors import CheckpointMismatch, CheckpointUnsafe, GraphMismatch, OutputNotFinite, OutsideData
from models.model import Model
from tests.unit.models_onnx_folder.conftest import torch

assert torch is not None
from models.export.onnx_folder import convert  # noqa: E402
from models.export.published_onnx import fed, keep_output, read_published  # noqa: E402
from tests.unit.models_onnx_folder import folders  # noqa: E402

SIZE = folders.SIZE


def graph(
    path: Path,
    *,
    domain: str = "",
    operator: str = "Identity",
    batch: int | str = "batch",
    opset: int = 17,
    side: int | str = "height",
    factor: float = 1.0,
    classes: int = 3,
    kind: int = TensorProto.FLOAT,
) -> None:
    """A classifier of one convolution over the whole image, with one fault or another."""
    weights = numpy_helper.from_array(np.full((classes, 3, SIZE, SIZE), factor, np.float32), "weights")
    nodes = [
        helper.make_node("Conv", ["pixel_values", "weights"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node(operator, ["flat"], ["logits"], domain=domain),
    ]
    given = helper.make_tensor_value_info("pixel_values", kind, [batch, 3, side, side])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(helper.make_graph(nodes, "main", [given], [made], [weights]), opset_imports=opsets)
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound folder, without torch weights."""
    folder = tmp_path / "site"
    graph(folder / "onnx" / "model.onnx")
    config = {"model_type": "site", "id2label": dict(enumerate(folders.LABELS)), "num_channels": 3}
    config["problem_type"] = "single_label_classification"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(folders.VIT))
    folders.write_card(folder, folders.card())
    return folder


def changed(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_the_folder_is_sound_else(source: Path, out: Path) -> None:
    assert convert(source, out).published["sizes"] == ["1x3x32x32", "3x3x32x32"]


def _made(source: Path, out: Path) -> Path:
    convert(source, out)
    return out


def test_operators_of_the_runtime_itself_are_run(source: Path, out: Path) -> None:
    graph(source / "onnx" / "model.onnx", operator="Gelu", domain="com.microsoft", factor=1e-4)
    assert Model(_made(source, out)).self_test()["main"] == 0.0


def test_a_graph_of_one_image_at_a_time_is_asked_so(source: Path, out: Path) -> None:
    graph(source / "onnx" / "model.onnx", batch=1)
    assert convert(source, out).published["sizes"] == ["1x3x32x32", "1x3x32x32"]
    graph(source / "onnx" / "model.onnx", batch=2)
    with pytest.raises(CheckpointMismatch, match="takes 2 x 3"):
        convert(source, out)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ({"domain": "com.example.ours"}, CheckpointUnsafe, r"operators of com\.example\.ours"),
        ({"opset": 9}, GraphMismatch, "opset 9"),
        ({"opset": 99}, GraphMismatch, "opset 99; those from 11 to 26"),
        ({"side": 64}, CheckpointMismatch, r"takes \? x 3 x 64 x 64; .* 32 x 32"),
        ({"factor": float("nan")}, OutputNotFinite, "NaN"),
        ({"classes": 4}, CheckpointMismatch, r"names 3 labels; the graph gives logits of shape \(1, 4\)"),
        ({"kind": TensorProto.FLOAT16}, CheckpointMismatch, "pixel_values is no float"),
    ],
)
def test_graphs(source: Path, out: Path, fault: dict[str, Any], error: Any, words: str) -> None:
    graph(source / "onnx" / "model.onnx", **fault)
    with pytest.raises(error, match=words):
        convert(source, out)


def test_operators_of_a_library_inside_a_branch(source: Path, out: Path) -> None:
    path = source / "onnx" / "model.onnx"
    model = onnx.load(path)
    inner = helper.make_node("Ours", ["flat"], ["chosen"], domain="com.example.ours")
    branch = helper.make_graph([inner], "then", [], [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)])
    model.graph.node[2].CopyFrom(helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.opset_import.append(helper.make_opsetid("com.example.ours", 1))
    onnx.save(model, path)
    with pytest.raises(CheckpointUnsafe, match=r"com\.example\.ours"):
        convert(source, out)


def with_data(source: Path, location: str) -> Path:
    """Weights into a file of their own, whose name in the graph is ``location``."""
    path = source / "onnx" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    onnx.save(model, path)
    return path.with_name("model.onnx_data")


def test_data_and_links_outside_of_the_folder(source: Path, out: Path) -> None:
    data = with_data(source, "../secret")
    data.rename(source / "secret")
    with pytest.raises(OutsideData, match="outside of its folder"):
        convert(source, out)
    with_data_again = source / "onnx" / "model.onnx"
    graph(with_data_again)
    data = with_data(source, "model.onnx_data")
    data.rename(source.parent / "elsewhere")
    data.symlink_to(source.parent / "elsewhere")
    with pytest.raises(OutsideData, match="is a link"):
        convert(source, out)
    data.unlink()
    with pytest.raises(OutsideData, match="is not there"):
        convert(source, out)
    graph(source.parent / "elsewhere.onnx")
    with_data_again.unlink()
    with_data_again.symlink_to(source.parent / "elsewhere.onnx")
    with pytest.raises(OutsideData, match="is a link"):
        convert(source, out)
    with_data_again.unlink()
    with_data_again.write_bytes(b"no graph at all")
    with pytest.raises(GraphMismatch):
        convert(source, out)


@pytest.mark.parametrize(
    "name",
    [
        "decoder_model_merged.onnx",
        "decoder_with_past_model.onnx",
        "encoder_model.onnx",
        "prompt_encoder_mask_decoder.onnx",
    ],
)
def test_models_that_write_or_take_prompts(source: Path, out: Path, name: str) -> None:
    (source / "onnx" / name).write_bytes(b"")
    with pytest.raises(CheckpointMismatch, match="import the checkpoint with the converter of its own system"):
        convert(source, out)


def test_models_that_write_by_their_configuration(source: Path, out: Path) -> None:
    changed(source / "config.json", architectures=["LlavaForConditionalGeneration"])
    with pytest.raises(CheckpointMismatch, match="writes text"):
        convert(source, out)


def options(content: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {
        **content,
        "options": {key: value for key, value in (content["options"] | values).items() if value is not None},
    }


Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {**c, "licence": None, "site": None}, "lacks .*licence, .*site"),
        (lambda c: {**c, "graphs": {"main": {}}}, "states graphs"),
        (lambda c: options(c, image={}), r"options\.image\.levels is missing"),
        (lambda c: options(c, image={"levels": "own_range", "size": 32}), r"options\.image\.size"),
        (lambda c: options(c, left_out=[]), "lacking NORMAL"),
        (lambda c: options(c, left_out=["NORMAL", "COVID"]), "unknown COVID"),
        (lambda c: options(c, left_out=["NORMAL", "EFFUSION"]), "twice EFFUSION"),
        (lambda c: options(c, findings=[], left_out=list(folders.LABELS)), "there is no finding"),
        (lambda c: options(c, activation="sigmoid"), "problem_type means softmax"),
        (lambda c: options(c, threshold=0.3), r"options\.threshold: not one of"),
        (lambda c: options(c, output="dense"), r"options\.output findings, embedding, masks"),
        (
            lambda c: {**c, "inputs": [{"role": "image", "kind": "image", "modality": "CT"}]},
            "one projection or photograph",
        ),
        (lambda c: {**c, "family": "generation"}, "family is feed_forward"),
    ],
)
def test_cards(source: Path, out: Path, change: Change, words: str) -> None:
    folders.write_card(source, change(folders.card()))
    with pytest.raises(CheckpointMismatch, match=words):
        convert(source, out)


def test_a_card_that_is_not_there(source: Path, out: Path) -> None:
    (source / "card.toml").unlink()
    with pytest.raises(CheckpointMismatch, match=r"card\.toml beside config\.json cannot be read.*licence"):
        convert(source, out)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"id2label": None}, "no id2label"),
        ({"id2label": {"0": "NORMAL", "2": "EFFUSION"}}, "0, 1, 2"),
        ({"num_labels": 5}, "states 5 labels and names 3"),
        ({"problem_type": None}, r"options\.activation is missing"),
        ({"num_channels": 1}, "states 1 channels; the graph takes 3"),
    ],
)
def test_configurations(source: Path, out: Path, values: dict[str, Any], words: str) -> None:
    changed(source / "config.json", **values)
    with pytest.raises(CheckpointMismatch, match=words):
        convert(source, out)


def test_preprocessing_that_is_not_known(source: Path, out: Path) -> None:
    changed(source / "preprocessor_config.json", do_pad=True)
    with pytest.raises(CheckpointMismatch, match="do_pad"):
        convert(source, out)


def test_one_output_keeps_what_its_branches_read(tmp_path: Path) -> None:
    """A branch reads from outside without saying so among its inputs."""
    value = helper.make_tensor_value_info
    kept = helper.make_node("Add", ["outer", "one"], ["chosen"])
    branch = helper.make_graph([kept], "then", [], [value("chosen", TensorProto.FLOAT, [1])])
    nodes = [
        helper.make_node("Mul", ["pixel_values", "two"], ["outer"]),
        helper.make_node("Neg", ["input_ids"], ["other"]),
        helper.make_node("If", ["yes"], ["wanted"], then_branch=branch, else_branch=branch),
    ]
    constants = [np.array([1], np.float32), np.array([2], np.float32), np.array(True)]
    weights = [numpy_helper.from_array(each, name) for each, name in zip(constants, ("one", "two", "yes"), strict=True)]
    given = [value("pixel_values", TensorProto.FLOAT, [1]), value("input_ids", TensorProto.INT64, [1])]
    made = [value("wanted", TensorProto.FLOAT, [1]), value("other", TensorProto.INT64, [1])]
    path = tmp_path / "two.onnx"
    model = helper.make_model(
        helper.make_graph(nodes, "main", given, made, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)
    model = read_published(path)
    keep_output(model, "wanted", ["pixel_values"])
    assert [each.op_type for each in model.graph.node] == ["Mul", "If"]
    assert [each.name for each in fed(model)] == ["pixel_values"]
    onnx.checker.check_model(model)
    with pytest.raises(CheckpointMismatch, match="other needs input_ids"):
        keep_output(read_published(path), "other", ["pixel_values"])
    with pytest.raises(CheckpointMismatch, match="gives no logits"):
        keep_output(read_published(path), "logits", ["pixel_values"])
