"""MGCA and ConVIRT with their text halves: released layouts convert, equal other implementations, and answer phrases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.bert_network import BertShape  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.mgca import TOWERS, ImageHalf, TextHalf, convert, halves_of, networks, used_tensors  # noqa: E402
from models.export.text_tower import batch, tokenizer  # noqa: E402
from tests.unit.models_image_text.released import JOINT, randomised, write_bert  # noqa: E402

State = dict[str, torch.Tensor]


def halves(shape: BertShape) -> tuple[ImageHalf, TextHalf]:
    image, text = ImageHalf((1, 1, 1, 1), 4, 24, JOINT), TextHalf(shape, 20, JOINT)
    randomised(image, 3)
    randomised(text, 4)
    return image, text


def write_release(folder: Path, name: str) -> tuple[Path, ImageHalf, TextHalf, State]:
    """What BenchX publishes, with the parts that are left."""
    shape = write_bert(folder, "mgca", 40)
    (folder / "bert_config.json").write_text(json.dumps({"num_attention_heads": shape.heads}))
    image, text = halves(shape)
    names = TOWERS[name]
    state = {f"{names.image}{key}": value for key, value in image.state_dict().items()}
    state |= {f"{names.text}{key}": value for key, value in text.state_dict().items()}
    state[f"{names.text}model.embeddings.position_ids"] = torch.arange(40)[None]
    state[f"{names.text}model.encoder.layer.0.crossattention.self.query.weight"] = torch.zeros(32, 32)
    for half in (names.image, names.text):
        state[f"{half}local_embed.head.0.weight"] = torch.zeros(8, 32, 1)
    state |= {f"{left}weight": torch.zeros(2, 2) for left in names.left}
    path = folder / "release.ckpt"
    torch.save({"state_dict": state, "epoch": 20}, path)
    return path, image, text, state


def test_the_published_layout() -> None:
    layout = Layout.load("mgca")
    assert len(layout.shapes) == 536 and "med.py" in layout.source
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in layout.shapes.items()}
        assert halves_of(tensors) == "mgca-phrases"
        names = TOWERS["mgca-phrases"]
        used = used_tensors(tensors, names)
        image, text = networks(used, names, Path("nowhere"))
        held = {f"{names.image}{key}": tuple(value.shape) for key, value in image.state_dict().items()}
        held |= {f"{names.text}{key}": tuple(value.shape) for key, value in text.state_dict().items()}
    assert held == {key: layout.shapes[key] for key in used} and len(held) == 442
    assert (text.model.embeddings.word_embeddings.weight.shape[0], len(text.model.encoder["layer"])) == (28996, 6)


def test_text_is_a_bert_whose_tokens_all_stand_at_position_zero(tmp_path: Path) -> None:
    shape = write_bert(tmp_path, "mgca", 40)
    _, text = halves(shape)
    config = transformers.BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.hidden,
        max_position_embeddings=shape.positions,
        attn_implementation="eager",
    )
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = {key: value.clone() for key, value in text.model.state_dict().items()}
    state["embeddings.token_type_embeddings.weight"] = torch.zeros(2, shape.width)
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    ids, mask = batch(["The heart is enlarged.", "The lungs are clear."], tokenizer(tmp_path))
    with torch.no_grad():
        expected = theirs(ids, mask, position_ids=torch.zeros_like(ids)).last_hidden_state[:, 0]
        others = theirs(ids, mask).last_hidden_state[:, 0]
        found = text.model(ids, mask)[-1][:, 0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, others, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOWERS))
def test_phrases_are_answered_as_the_halves_say(tmp_path: Path, name: str) -> None:
    path, image, text, _ = write_release(tmp_path, name)
    report = convert(path, tmp_path).report()
    assert (report["system"], report["model"], report["missing"], report["unexpected"]) == (name, name, 0, 0)
    assert report["unused"] == 4 + len(TOWERS[name].left)
    assert max(report["graphs"]["main.onnx"]["relative_differences"]) < 1e-5
    model = Model(tmp_path)
    model.verify()
    assert max(model.self_test().values()) < 1e-4
    grey = np.random.default_rng(1).integers(0, 256, (1, 512, 512)).astype(np.float32)
    grey[0, 0, :2] = 0, 255
    result = model.run({"image": Volume(grey, np.eye(4), facts={"maximum_value": 255})}, {})
    # By hand: areas of two by two pixels, the middle, enlarged with its corners in place.
    small = np.floor(grey[0].reshape(256, 2, 256, 2).mean((1, 3)) * 1e6 + 0.5) / 1e6
    middle = torch.from_numpy((small[16:240, 16:240] / 255 - 0.5) / 0.5).float().expand(1, 3, -1, -1)
    enlarged = torch.nn.Upsample(size=(299, 299), mode="bilinear", align_corners=True)(middle)
    words = tokenizer(tmp_path)
    with torch.no_grad():
        features = image.model(enlarged).mean((2, 3))
        pictured = torch.nn.functional.normalize(image.global_embed(features), dim=-1)[0]
        scores = []
        for entry in model.card.options["classes"]:
            said = torch.nn.functional.normalize(text(*batch(entry["positive"], words)), dim=-1).mean(0)
            scores.append(float(torch.nn.functional.normalize(said, dim=0) @ pictured) / 0.07)
    expected = torch.tensor(scores).softmax(0).numpy()
    shown = {each.concept.meaning: each.probability for each in result.findings}
    named = [entry["concept"]["meaning"] for entry in model.card.options["classes"] if not entry.get("background")]
    assert [shown[each] for each in named] == pytest.approx(expected[: len(named)].tolist(), abs=1e-4)


@pytest.mark.parametrize("change", ["no text", "missing", "unexpected", "another", "heads"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    path, _, _, state = write_release(tmp_path, "mgca-phrases")
    wanted = {"no text": "no text half", "unexpected": "another_head", "another": "not MGCA", "heads": "heads"}
    if change == "no text":
        state = {key: value for key, value in state.items() if not key.startswith("text_encoder_q.")}
    elif change == "missing":
        del state["text_encoder_q.global_embed.head.1.running_mean"]
    elif change == "unexpected":
        state["another_head.weight"] = torch.zeros(2)
    elif change == "another":
        state = {f"x.{key}": value for key, value in state.items()}
    else:
        (tmp_path / "bert_config.json").write_text("{}")
    torch.save({"state_dict": state}, path)
    with pytest.raises(CheckpointMismatch, match=wanted.get(change, "missing: global_embed.head.1.running_mean")):
        convert(path, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
