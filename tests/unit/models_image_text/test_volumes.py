"""A CT against phrases: patient axes, spacing and size as MONAI makes them, Merlin's tower, and its text."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch, InferenceFailed
from models.export.imported import CARDS_FOLDER
from models.intensity import Percentile, Window
from models.model import Model
from models.projection_input import ProjectionInput
from models.slice_input import SliceInput, VolumeInput, chosen_slice, slice_image, volume_image
from models.volume import Volume

RECIPE = VolumeInput(size_xyz=(24, 24, 16), spacing_mm_xyz=(1.5, 1.5, 3.0), low=-1000, high=1000)


def marked(affine: np.ndarray, at_lps: tuple[float, float, float]) -> Volume:
    """A series of air with one small bright cube at a place of the patient."""
    shape = (16, 40, 40)
    k, j, i = np.indices(shape)
    places = np.einsum("ab,bkji->akji", affine, np.stack([i, j, k, np.ones(shape)]))[:3]
    near = (np.abs(places - np.array(at_lps)[:, None, None, None]) < 3.1).all(0)
    return Volume(np.where(near, 1000.0, -1000.0).astype(np.float32), affine)


def centred(diagonal: tuple[float, float, float], turn: np.ndarray) -> np.ndarray:
    """An affine of 40 x 40 x 16 voxels around the origin."""
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(diagonal)
    affine[:3, 3] = -affine[:3, :3] @ np.array([39, 39, 15]) / 2
    return affine


TURNS = {
    "axial": np.eye(3),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
}


@pytest.mark.parametrize("turn", sorted(TURNS))
@pytest.mark.parametrize("side", [(10.0, 0.0, 0.0), (0.0, 10.0, 0.0), (0.0, 0.0, 10.0)])
def test_axes_grow_to_right_front_and_head(turn: str, side: tuple[float, float, float]) -> None:
    affine = centred((1.2, 1.2, 2.5), TURNS[turn])
    made = volume_image(marked(affine, side), RECIPE)
    assert made.shape == (1, 1, 24, 24, 16) and made.max() > 0.9 and made.min() == 0.0
    weights = made[0, 0] / made.sum()
    found = [float((np.indices(weights.shape)[axis] * weights).sum()) for axis in range(3)]
    # Patient coordinates grow to the left, to the back and to the head.
    expected = [11.5 - side[0] / 1.5, 11.5 - side[1] / 1.5, 7.5 + side[2] / 3.0]
    assert np.allclose(found, expected, atol=1.1)


def test_values_lie_between_the_limits() -> None:
    affine = centred((1.5, 1.5, 3.0), np.eye(3))
    flat = Volume(np.full((16, 40, 40), 500.0, np.float32), affine)
    assert volume_image(flat, RECIPE)[0, 0, 5:19, 5:19, 2:14] == pytest.approx(0.75)
    beyond = Volume(np.full((16, 40, 40), 3000.0, np.float32), affine)
    assert volume_image(beyond, RECIPE).max() == 1.0
    with pytest.raises(InferenceFailed, match="NaN"):
        volume_image(Volume(np.full((2, 4, 4), np.nan, np.float32), np.eye(4)), RECIPE)


def test_one_slice_becomes_a_picture() -> None:
    picture = ProjectionInput(size=32, crop="none", resize="bilinear", channels=3)
    array = np.full((5, 40, 40), -1000.0, np.float32)
    array[3, 10:30, 10:30] = 40.0
    array[2, 15:20, 15:20] = 40.0
    volume = Volume(array, np.eye(4))
    middle = SliceInput(intensity=Window(kind="window", centre=40, width=400), picture=picture)
    assert chosen_slice(volume, middle) == 2
    largest = middle.model_copy(update={"choose": "largest"})
    assert chosen_slice(volume, largest) == 3
    made = slice_image(volume, largest)
    assert made.shape == (1, 3, 32, 32)
    assert made[0, :, 16, 16] == pytest.approx(1.0, abs=0.01) and made[0, :, 1, 1] == pytest.approx(0.0, abs=0.01)
    by_share = SliceInput(intensity=Percentile(kind="percentile"), picture=picture)
    assert slice_image(volume, by_share).max() <= 1.0


torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.bert_network import BertShape  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.merlin import Merlin, convert, sanitised  # noqa: E402
from models.export.merlin_network import InflatedResNet, LongformerText  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

LONG = BertShape(50265, 768, 12, 12, 3072, 4098, 1, 1e-5, 2, True)


def test_merlins_released_layout() -> None:
    layout = Layout.load("merlin")
    with torch.device("meta"):
        network = Merlin(InflatedResNet(), LongformerText(LONG, 512))
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == 1208
    assert layout.shapes["encode_image.i3_resnet.classifier.weight"] == (1692, 2048, 1, 1, 1)


def test_longformer_equals_another_implementation() -> None:
    """Of phrases shorter than its window every token sees all others."""
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    shape = BertShape(60, 32, 2, 4, 64, 90, 1, 1e-5, 2, True)
    ours = randomised(LongformerText(shape, 16), 1)
    config = transformers.LongformerConfig(
        attention_window=[32, 32],
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=90,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        sep_token_id=2,
    )
    theirs = transformers.LongformerModel(config).eval()
    missing, unexpected = theirs.load_state_dict(ours.text_encoder.state_dict(), strict=False)
    assert [key for key in missing if "position_ids" not in key] == list(unexpected) == []
    ids = torch.tensor([[0, 5, 6, 7, 8, 9, 2], [0, 11, 12, 2, 1, 1, 1]])
    mask = (ids != 1).to(torch.int64)
    with torch.no_grad():
        other = theirs(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        assert torch.allclose(ours(ids, mask), ours.linear_layer(other), atol=1e-4)


def test_phrases_are_prepared_as_reports_are() -> None:
    assert sanitised("No Pleural effusion, left.") == "no pleural effusion , left ."


@pytest.mark.slow
def test_merlin_becomes_a_model(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    options = tomllib.loads((CARDS_FOLDER / "merlin.toml").read_text(encoding="utf-8"))["options"]
    phrases = [phrase for entry in options["classes"] for phrase in (*entry["positive"], *entry["negative"])]
    words = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *(word for p in phrases for word in sanitised(p).split())])
    numbers = {word: n for n, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    sizes = {"vocab_size": len(numbers), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "max_position_embeddings": 66, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    shape = BertShape(len(numbers), 32, 2, 4, 64, 66, 1, 1e-5, 2, True)
    network = Merlin(InflatedResNet((1, 1, 1, 1), 4, 16, 9), LongformerText(shape, 16))
    randomised(network, 3)
    state = dict(network.state_dict())
    state["encode_text.text_encoder.embeddings.position_ids"] = torch.arange(66)[None]
    torch.save(state, tmp_path / "merlin.pt")
    out = tmp_path / "out"
    out.mkdir()
    report = convert(tmp_path / "merlin.pt", out).report()
    graph = report["graphs"]["main.onnx"]
    print("merlin", report["keys"], graph)
    assert len(graph["relative_differences"]) == 3 and max(graph["relative_differences"]) < 1e-4
    card = out / "model.toml"
    small = card.read_text().replace("[224, 224, 160]", "[48, 48, 32]")
    card.write_text(small)
    model = Model(out)
    model.self_test()
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(-900, 900, (20, 50, 50)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    result = model.run({"image": volume}, {})
    assert len(result.findings) == 6 and result.embedding is not None and result.embedding.shape == (16,)
    del state["encode_image.i3_resnet.contrastive_head.bias"]
    torch.save(state, tmp_path / "merlin.pt")
    with pytest.raises(CheckpointMismatch, match=r"contrastive_head\.bias"):
        convert(tmp_path / "merlin.pt", out)
