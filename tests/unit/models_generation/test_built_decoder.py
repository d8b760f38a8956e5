"""Decoders of onnxruntime-genai's builder: they write the tokens our own export and transformers write, or are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CheckpointMismatch, ExportFailed, InferenceFailed, OutsideData
from models.generation.limits import Limits
from models.generation.strategies import Strategy, write
from models.generation.wiring import EmbeddedPrompt
from models.model import Model

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("transformers", reason="the comparison needs transformers")
import onnx  # noqa: E402

from models.export import built_decoder, llava_med  # noqa: E402
from models.export.built_decoder import to_built  # noqa: E402
from models.export.imported import Imported  # noqa: E402
from models.export.smaller_weights import to_smaller  # noqa: E402
from models.export.text_part import write_text_part  # noqa: E402
from tests.generators import built_decoders  # noqa: E402
from tests.unit.models_generation.references import IMAGE_TOKEN, Reference  # noqa: E402
from tests.unit.models_generation.released import STOP, ids_of  # noqa: E402
from tests.unit.models_generation.test_reading_adapter import shortened  # noqa: E402
from tests.unit.models_generation.test_vision_language import CASES, Case, Converted, prompt_of  # noqa: E402

pytestmark = pytest.mark.slow

NAMES = {
    "llava-med": "llava-med",
    "bimedix2": "bimedix2",
    "lingshu": "lingshu",
    "hulu-med": "hulu-med-4b",
    "fleming-vl": "fleming-vl",
}


@dataclass(frozen=True)
class Pair:
    """A system with its own decoder and with the built one."""

    system: str
    case: Case
    reference: Reference
    imported: Imported
    own: Path
    built: Path
    report: dict[str, Any]

    def converted(self, folder: Path) -> Converted:
        return Converted(self.case, self.reference, Model(folder, threads=1), self.report)


def built_for(system: str, checkpoint: Path, work: Path) -> Path:
    """What the builder makes of the checkpoint now, where its environment is named; else what it once made of the same."""
    if built_decoders.PYTHON:
        return built_decoders.build(system, checkpoint, work / "built")
    return built_decoders.FOLDER / system


@pytest.fixture(scope="module", params=list(NAMES) if built_decoders.PYTHON else built_decoders.STORED)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    system, case = request.param, CASES[NAMES[request.param]]
    work = tmp_path_factory.mktemp(system)
    reference = built_decoders.reference(system, work / "in")
    (work / "own").mkdir()
    imported = case.convert(reference.folder, work / "own")
    shutil.copytree(work / "own", work / "out")
    source = built_for(system, reference.folder, work)
    made = to_built(imported, work / "out", source)
    return Pair(system, case, reference, imported, work / "own", work / "out", made.report())


def test_the_tokens_are_those_of_our_own_decoder_and_of_transformers(pair: Pair) -> None:
    distinct: set[int] = set()
    for seed, image in enumerate(pair.case.images):
        for words in (2, 9):
            for settings, strategy in (({}, Strategy()), ({"num_beams": 3}, Strategy(kind="beams", beams=3))):
                given, _ = prompt_of(pair.converted(pair.own), image, words, seed)
                made = pair.reference.model.generate(**given, max_new_tokens=16, do_sample=False, **settings)
                expected = ids_of(made, given["input_ids"].shape[1])
                for folder in (pair.own, pair.built):
                    _, reader = prompt_of(pair.converted(folder), image, words, seed)
                    assert list(write(reader, strategy, Limits(16, (STOP,))).tokens) == expected, (
                        settings,
                        image,
                        words,
                    )
                distinct.update(expected)
    assert len(distinct) >= 12


def test_what_was_built_is_pinned_told_and_fused(pair: Pair) -> None:
    told = pair.report["graphs"]["decoder-genai.onnx"]
    assert told["exporter"] == "onnxruntime-genai" and len(told["relative_differences"]) == 3
    assert max(told["relative_differences"]) < 1e-4
    model = Model(pair.built, threads=1)
    model.verify()
    model.self_test()
    assert model.card.provenance["decoder"].startswith("built by onnxruntime-genai 0.")
    files = {path.name for path in pair.built.iterdir()} - {"model.toml"}
    assert files == {pinned.file for pinned in model.card.pinned}
    graph = onnx.load(str(pair.built / "decoder-genai.onnx")).graph
    kinds = {node.op_type for node in graph.node}
    assert "GroupQueryAttention" in kinds and "Softmax" not in kinds
    assert ("MRotaryEmbedding" in kinds) == (pair.system == "lingshu")
    # Only the last token is answered, however long the prompt is.
    logits = next(each for each in graph.output if each.name == "logits")
    assert logits.type.tensor_type.shape.dim[1].dim_value == 1


def test_a_text_longer_than_its_turns_ends_with_an_error(pair: Pair) -> None:
    from models.generation.wiring import CacheShape, DecoderOnly

    model = Model(pair.built, threads=1)
    cache = model.card.options["cache"]
    long = built_decoders.PLACES + 1
    positions = np.arange(long)[None] if pair.system != "lingshu" else np.broadcast_to(np.arange(long), (3, 1, long))
    prompt = EmbeddedPrompt((5,) * long, np.ones((1, long, 32), np.float32), np.ascontiguousarray(positions), long)
    shape = CacheShape(cache["layers"], cache["heads"], cache["head_size"])
    with pytest.raises(InferenceFailed):
        DecoderOnly(model.session("embed"), model.session("decoder"), prompt, shape).start()


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> tuple[Imported, Path, Path]:
    """LLaVA-Med with its own decoder, and what the builder made of it."""
    work = tmp_path_factory.mktemp("llava")
    reference = built_decoders.reference("llava-med", work / "in")
    (work / "own").mkdir()
    return llava_med.convert(reference.folder, work / "own"), work / "own", built_decoders.FOLDER / "llava-med"


def again(llava: tuple[Imported, Path, Path], tmp_path: Path) -> tuple[Imported, Path, Path]:
    """Copies that may be spoilt."""
    imported, own, built = llava
    shutil.copytree(own, tmp_path / "own")
    shutil.copytree(built, tmp_path / "built")
    return imported, tmp_path / "own", tmp_path / "built"


def test_smaller_weights_are_made_of_what_was_built(llava: tuple[Imported, Path, Path], tmp_path: Path) -> None:
    imported, own, built = again(llava, tmp_path)
    shortened(own)
    made = to_smaller(to_built(imported, own, built), own, "int4", most_changed=1.0)
    assert made.weights["graphs"]["decoder"] == "decoder-genai-int4.onnx"
    kinds = [node.op_type for node in onnx.load(str(own / "decoder-genai-int4.onnx")).graph.node]
    assert kinds.count("MatMulNBits") >= 10 and "MatMul" not in kinds and "GroupQueryAttention" in kinds
    model = Model(own, threads=1)
    model.verify()
    model.self_test()
    assert model.card.provenance["decoder"] and model.card.provenance["weights"].startswith("int4")


def test_weights_too_large_for_one_file_lie_beside_the_graph(
    llava: tuple[Imported, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported, own, built = again(llava, tmp_path)
    monkeypatch.setattr(built_decoder, "LARGEST_FILE", 1000)
    card = to_built(imported, own, built).card
    assert card.files["decoder_data"].file == "decoder-genai.onnx.data"
    model = Model(own, threads=1)
    model.verify()
    model.self_test()


def test_other_weights_are_refused(llava: tuple[Imported, Path, Path], tmp_path: Path) -> None:
    imported, own, built = again(llava, tmp_path)
    model = onnx.load(str(built / "model.onnx"))
    weight = next(each for each in model.graph.initializer if each.name.endswith("down_proj.MatMul.weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0, 0] += 0.1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(built / "model.onnx"))
    before = sorted(path.name for path in own.iterdir())
    with pytest.raises(ExportFailed, match="of other weights"):
        to_built(imported, own, built)
    assert sorted(path.name for path in own.iterdir()) == before


def changed(built: Path, change: Any) -> None:
    model = onnx.load(str(built / "model.onnx"), load_external_data=False)
    change(model)
    (built / "model.onnx").write_bytes(model.SerializeToString())


def told_input(model: onnx.ModelProto, name: str) -> Any:
    return next(each for each in model.graph.input if each.name == name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: setattr(told_input(m, "inputs_embeds"), "name", "input_ids"), "exclude_embeds=true"),
        (
            lambda m: setattr(told_input(m, "past_key_values.2.key"), "name", "past_key_values.7.key"),
            "past.2.k, past.7.k",
        ),
        (lambda m: setattr(told_input(m, "inputs_embeds").type.tensor_type, "elem_type", 10), "-p fp32"),
        (lambda m: setattr(m, "producer_name", "pytorch"), "written by pytorch"),
        (lambda m: setattr(m.graph.output[0], "name", "hidden_states"), "answer with logits"),
        (lambda m: m.graph.node.remove(next(n for n in m.graph.node if n.op_type == "Sigmoid")), "does not load"),
        (
            lambda m: setattr(told_input(m, "past_key_values.0.key").type.tensor_type.shape.dim[1], "dim_value", 4),
            "past.0.k is of sizes",
        ),
    ],
)
def test_another_graph_is_refused(llava: tuple[Imported, Path, Path], tmp_path: Path, change: Any, says: str) -> None:
    imported, own, built = again(llava, tmp_path)
    changed(built, change)
    with pytest.raises(CheckpointMismatch, match=says):
        to_built(imported, own, built)


def test_data_from_elsewhere_is_not_read(llava: tuple[Imported, Path, Path], tmp_path: Path) -> None:
    imported, own, built = again(llava, tmp_path)

    def elsewhere(model: onnx.ModelProto) -> None:
        for each in model.graph.initializer:
            for entry in each.external_data:
                entry.value = "../own/tokenizer.json" if entry.key == "location" else entry.value

    changed(built, elsewhere)
    with pytest.raises(OutsideData):
        to_built(imported, own, built)
    with pytest.raises(CheckpointMismatch, match=r"holds no model\.onnx"):
        to_built(imported, own, own)


def test_what_the_operator_cannot_see_is_refused(llava: tuple[Imported, Path, Path]) -> None:
    from dataclasses import replace

    imported, own, built = llava
    options = imported.card.options
    seeing = {**options, "prompt": {**options["prompt"], "image_sees_itself": True}}
    for other, says in ((seeing, "see each other"), ({**options, "architecture": "image_encoder"}, "no decoder")):
        card = imported.card.model_copy(update={"options": other})
        with pytest.raises(CheckpointMismatch, match=says):
            to_built(replace(imported, card=card), own, built)


def test_the_text_part_is_transformers_own_layout(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = CASES["bimedix2"].make(tmp_path / "in")
    write_text_part("bimedix2", reference.folder, tmp_path / "text")
    made, told = AutoModelForCausalLM.from_pretrained(tmp_path / "text", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    ids = torch.tensor([[3, 9, 27, 81, 4]])
    assert IMAGE_TOKEN not in ids
    with torch.no_grad():
        ours, theirs = made.eval()(input_ids=ids).logits, reference.model(input_ids=ids).logits
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())
    assert json.loads((tmp_path / "text" / "config.json").read_text())["eos_token_id"] == STOP
    with pytest.raises(CheckpointMismatch, match="no text part of medgemma"):
        write_text_part("medgemma", reference.folder, tmp_path / "other")


def test_an_engineer_imports_it_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from node.cli import main

    source, out = built_decoders.reference("llava-med", tmp_path / "in").folder, tmp_path / "out"
    told = ["models", "import", "llava-med", str(source), "--out", str(out)]
    assert main([*told, "--decoder", str(built_decoders.FOLDER / "lingshu")]) == 1
    assert "MOD-012" in capsys.readouterr().err and not out.exists()
    assert main([*told, "--decoder", str(built_decoders.FOLDER / "llava-med")]) == 0
    said = capsys.readouterr().out
    assert "decoder-genai.onnx: onnxruntime-genai exporter, differs from the node's own export by at most" in said
    Model(out, threads=1).self_test()
