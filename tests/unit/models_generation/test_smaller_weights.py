"""Smaller weights of models that write text: measured, stated in the card, refused where they say other things."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.card import Card
from models.errors import QuantisationRefused
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="the checkpoint is made by transformers")

from models.adapters.reading import ReadingAdapter  # noqa: E402
from models.export import four_bit, half_precision, r2gen, vision_encoder_decoder  # noqa: E402
from models.export.__main__ import main  # noqa: E402
from models.export.drift import measured_drift, pictures  # noqa: E402
from models.export.imported import Imported  # noqa: E402
from models.export.smaller_weights import to_smaller  # noqa: E402
from models.generation.pictures import picture_of_grey  # noqa: E402
from tests.unit.models_generation.test_r2gen import write_release  # noqa: E402
from tests.unit.models_generation.trained import LANGUAGES, report_generator  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Path]:
    """A small generator that was taught two sentences."""
    folder = tmp_path_factory.mktemp("float")
    imported = vision_encoder_decoder.convert(report_generator(tmp_path_factory.mktemp("in")), folder)
    card = folder / "model.toml"
    # The second token of its texts is the language, which the card gives.
    starts = json.dumps([1, LANGUAGES["en"]])
    card.write_text(card.read_text(encoding="utf-8").replace("start_tokens = [1]", f"start_tokens = {starts}"), "utf-8")
    return imported, folder


def copied(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    return folder


def radiograph(bright: int) -> Volume:
    grey = np.random.default_rng(bright).integers(0, 40, (1, 64, 64)).astype(np.float32)
    grey[0, :, bright * 32 : bright * 32 + 32] += 200
    return Volume(grey, np.eye(4), facts={"maximum_value": 255})


@pytest.mark.parametrize(
    ("kind", "drifts", "words"), [("int8", 0.1, "8-bit"), ("fp16", 0.002, "half-precision"), ("int4", 0.2, "4-bit")]
)
def test_a_taught_model_says_the_same(
    converted: tuple[Imported, Path], tmp_path: Path, kind: str, drifts: float, words: str
) -> None:
    imported, source = converted
    folder = copied(source, tmp_path / kind)
    made = to_smaller(imported, folder, kind)
    told = made.report()["weights"]
    drift = told["drift"]
    assert drift["changed"] == 0 and drift["places"] >= 20
    assert 0 < drift["mean"] < drifts * drift["spread"] and drift["mean"] < drift["largest"]
    assert told["kind"] == kind and told["bytes"] < told["bytes_float"]
    model, before = Model(folder, threads=1), Model(source, threads=1)
    model.verify()
    assert max(model.self_test().values()) < 1e-3
    texts = set()
    for bright in (0, 1):
        ours, theirs = (each.run({"image": radiograph(bright)}, {}).drafts[0] for each in (model, before))
        assert ours.findings == theirs.findings
        assert f"{words} weights" in ours.author.name and ours.author.version.endswith(f"+{kind}")
        texts.add(ours.findings)
    assert len(texts) == 2
    # Nothing of the float graph is left, and the files that are there are pinned.
    assert {path.name for path in folder.iterdir()} == {
        "model.toml", *(pinned.file for pinned in Card.load(folder).pinned)
    }  # fmt: skip
    assert any(each.startswith("Weights are") and ": 0.0% of" in each for each in model.card.caveats)


def test_the_figures_are_those_of_both_models(converted: tuple[Imported, Path], tmp_path: Path) -> None:
    imported, source = converted
    folder = copied(source, tmp_path / "int8")
    drift = to_smaller(imported, folder, "int8").weights["drift"]
    ours, other = (ReadingAdapter(Model(each, threads=1)) for each in (source, folder))
    again = measured_drift(ours, other)
    assert again.largest == pytest.approx(drift["largest"], rel=1e-3)
    # By hand, at the first word of each picture.
    away = []
    for grey in pictures():
        picture = picture_of_grey(grey, ours.options.image)
        first, second = (each.reader(picture, "", "en").start()[0] for each in (ours, other))
        away.append(float(np.abs(first - second).max()))
    assert 0 < max(away) <= again.largest + 1e-6
    same = measured_drift(ours, ours)
    assert (same.changed, same.largest, same.mean) == (0, 0, 0)


def test_a_model_that_would_say_other_things_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Random weights decide between words by nothing.
    source = tmp_path / "in"
    source.mkdir()
    write_release(source, "r2gen", 32)
    folder = tmp_path / "out"
    folder.mkdir()
    imported = r2gen.convert_as("r2gen", source, folder, size=64)
    float_graph = (folder / "decoder.onnx").read_bytes()
    for kind in ("int8", "int4"):
        work, refused = (copied(folder, tmp_path / f"{kind}-{each}") for each in ("made", "refused"))
        drift = to_smaller(imported, work, kind, most_changed=1.0).weights["drift"]
        Model(work, threads=1).self_test()
        assert drift["changed"] > 0
        with pytest.raises(QuantisationRefused, match=f"change {drift['changed']:.1%}"):
            to_smaller(imported, refused, kind, most_changed=drift["changed"] / 2)
        assert (refused / "decoder.onnx").read_bytes() == float_graph
    out = tmp_path / "child"
    out.mkdir()
    assert main(["--weights", "int8", "--most-changed", "0", "--", "r2gen", str(source), str(out)]) == 1
    said = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert said["code"] == QuantisationRefused.code and "--most-changed" in said["remedy"]


def test_what_writes_no_text_is_refused(converted: tuple[Imported, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    imported, _ = converted
    other = replace(imported, card=imported.card.model_copy(update={"options": {"output": "embedding"}}))
    with pytest.raises(QuantisationRefused, match="no graph that writes text"):
        to_smaller(other, tmp_path, "int8")


def test_half_precision_multiplies_halves_and_adds_floats(converted: tuple[Imported, Path], tmp_path: Path) -> None:
    import onnx

    folder = copied(converted[1], tmp_path / "fp16")
    path = half_precision.halved(folder / "decoder.onnx")
    graph = onnx.load(str(path)).graph
    onnx.checker.check_model(str(path), full_check=True)
    before = onnx.load(str(folder / "decoder.onnx")).graph
    halves = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT16}
    multiplied = [node for node in graph.node if halves & set(node.input)]
    assert multiplied and {node.op_type for node in multiplied} <= {"MatMul", "Gemm", "Gather"}
    # Whoever feeds the graph sees no difference.
    for ours, theirs in ((graph.input, before.input), (graph.output, before.output)):
        assert [(each.name, each.type) for each in ours] == [(each.name, each.type) for each in theirs]
    # Every product with weights was taken; what is left is multiplied with something that was computed.
    floats = {each.name: each for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    assert not [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and any(np.prod(floats[n].dims) >= 256 for n in node.input if n in floats)
    ]


def product(path: Path, values: np.ndarray, *, stored: bool = True) -> Path:
    """A graph that multiplies ``x`` (1, rows) with ``values``; with what is fed instead, where they are not stored."""
    import onnx
    from onnx import helper, numpy_helper

    def told(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [told("x", 1, len(values)), *([] if stored else [told("w", *values.shape)])],
        [told("y", 1, values.shape[1])],
        [numpy_helper.from_array(values, "w")] if stored else [],
    )
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), str(path))
    return path


def test_a_weight_that_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    with pytest.raises(QuantisationRefused, match="7e\\+04 does not fit"):
        half_precision.halved(product(path, np.full((16, 16), 7e4, np.float32)))
    with pytest.raises(QuantisationRefused, match="no weights"):
        half_precision.halved(product(path, np.ones((16, 2), np.float32)))


def test_a_weight_of_four_bits_is_one_of_sixteen_steps_of_its_block(tmp_path: Path) -> None:
    from models.session import CPU, Session

    # Two blocks of 32 rows whose weights differ by a factor of a hundred: each has a scale of its own.
    rng = np.random.default_rng(3)
    blocks = rng.uniform(-1, 1, (2, 32, 8)) * np.array([1.0, 0.01])[:, None, None]
    values = blocks.reshape(64, 8).astype(np.float32)
    session = Session(four_bit.quantised(product(tmp_path / "g.onnx", values)), providers=(CPU,))
    rows = np.concatenate([session.run({"x": row[None]})["y"] for row in np.eye(64, dtype=np.float32)])
    step = (blocks.max(1) - blocks.min(1)) / 15
    away = np.abs(rows.reshape(2, 32, 8) - blocks).max(1)
    assert (away <= 0.52 * step + 1e-6).all() and (away > 0.2 * step).all()
    assert all(len(np.unique(rows[at : at + 32, column].round(6))) <= 16 for at in (0, 32) for column in range(8))
    with pytest.raises(QuantisationRefused, match="no weights"):
        four_bit.quantised(product(tmp_path / "g.onnx", values, stored=False))


def test_the_last_product_keeps_eight_bits(converted: tuple[Imported, Path], tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    folder = copied(converted[1], tmp_path / "int4")
    path = four_bit.quantised(folder / "decoder.onnx")
    model, before = onnx.load(str(path)), onnx.load(str(folder / "decoder.onnx"))
    assert {(each.domain, each.version) for each in model.opset_import} == {("", 20), ("com.microsoft", 1)}
    bits = {}
    for node in (node for node in model.graph.node if node.op_type == "MatMulNBits"):
        told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        assert (node.domain, told["block_size"], told["accuracy_level"], len(node.input)) == ("com.microsoft", 32, 4, 4)
        bits[node.name] = told["bits"]
    assert sorted(set(bits.values())) == [4, 8] and list(bits.values()).count(8) == 1
    head = four_bit.head_of(before.graph)
    assert head is not None and next(name for name, each in bits.items() if each == 8).startswith(head.name)
    # Every product with a stored weight was taken.
    stored = {each.name for each in model.graph.initializer}
    assert not [n.name for n in model.graph.node if n.op_type == "MatMul" and stored & set(n.input)]
