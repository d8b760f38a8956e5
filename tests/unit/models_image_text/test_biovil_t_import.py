"""BioViL-T's released folder converts: image with and without an earlier one, phrases, and nothing else."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.bert_network import Bert, BertShape  # noqa: E402
from models.export.biovil_t import IMAGE_FILE, convert, phrase_vectors  # noqa: E402
from models.export.biovil_t_network import BioVilTImage, CxrBert, _sine_places  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.resnet_network import ResNet  # noqa: E402

pytestmark = pytest.mark.slow
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PHRASES = """
    findings consistent with pneumonia suggesting this opacity can represent are most compatible
    there is no evidence of acute signs
"""
WORDS = [*SPECIAL, *PHRASES.split()]
TEXT = BertShape(len(WORDS), 32, 2, 4, 64, 64)


def randomised(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights and statistics far enough from their start that an error shows."""
    torch.manual_seed(seed)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.dtype.is_floating_point:
            value.normal_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0, 0.1)
    return module.eval()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of the released layout."""
    return write_released(tmp_path_factory.mktemp("BiomedVLP-BioViL-T"))


def write_released(folder: Path) -> Path:
    """Write a small folder of the released layout."""
    image = randomised(BioVilTImage(blocks=(1, 1, 1, 1), first=4, classes=10, width=32, joint=16), 1)
    torch.save(image.state_dict(), folder / IMAGE_FILE)
    text = randomised(CxrBert(TEXT, 16), 2).state_dict()
    text["cls.predictions.bias"] = torch.zeros(len(WORDS))
    text["bert.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save(text, folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    config = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "projection_size": 16,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_released_layout_has_372_keys() -> None:
    layout = Layout.load("biovil-t")
    with torch.device("meta"):
        state = BioVilTImage().state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == 372


def test_bert_equals_another_implementation() -> None:
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    ours = randomised(Bert(TEXT), 3)
    config = transformers.BertConfig(
        vocab_size=TEXT.vocabulary,
        hidden_size=TEXT.width,
        num_hidden_layers=TEXT.layers,
        num_attention_heads=TEXT.heads,
        intermediate_size=TEXT.hidden,
        max_position_embeddings=TEXT.positions,
    )
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert [key for key in missing if "position_ids" not in key] == list(unexpected) == []
    ids = torch.randint(0, TEXT.vocabulary, (3, 7))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
    with torch.no_grad():
        mine = ours(ids, mask)
        other = theirs(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    for a, b in zip(mine, other, strict=True):
        assert torch.allclose(a[mask > 0], b[mask > 0], atol=1e-4)


def test_resnet_equals_another_implementation() -> None:
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    ours = randomised(ResNet((2, 1, 2, 1), 8, 5), 4)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[2, 1, 2, 1])
    theirs = transformers.ResNetModel(config).eval()
    renamed = {}
    for key, value in ours.state_dict().items():
        if key.startswith("fc."):
            continue
        key = re.sub(r"^conv1", "embedder.embedder.convolution", key)
        key = re.sub(r"^bn1", "embedder.embedder.normalization", key)
        key = re.sub(r"^layer(\d)\.(\d)", lambda m: f"encoder.stages.{int(m[1]) - 1}.layers.{m[2]}", key)
        key = re.sub(r"\.conv(\d)", lambda m: f".layer.{int(m[1]) - 1}.convolution", key)
        key = re.sub(r"\.bn(\d)", lambda m: f".layer.{int(m[1]) - 1}.normalization", key)
        key = key.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")
        renamed[key] = value
    theirs.load_state_dict(renamed)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(ours(image), theirs(image).last_hidden_state, atol=1e-4)


def test_places_are_the_sines_of_row_and_column() -> None:
    grid, width = 3, 8
    made = _sine_places(grid, width)[0]
    for row in range(grid):
        for column in range(grid):
            for part, step in ((0, row), (width, column)):
                angle = (step + 1) / (grid + 1e-6) * 2 * math.pi
                for channel in range(width):
                    turn = angle / 10000 ** (2 * (channel // 2) / width)
                    expected = math.cos(turn) if channel % 2 else math.sin(turn)
                    assert made[row * grid + column, part + channel] == pytest.approx(expected, abs=1e-5)


def test_the_folder_becomes_a_model(released: Path, tmp_path: Path) -> None:
    imported = convert(released, tmp_path)
    report = imported.report()
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print("relative differences between torch and ONNX Runtime:", differences)
    assert len(differences) == 3
    assert max(differences) < 1e-4
    model = Model(tmp_path)
    model.self_test()
    rng = np.random.default_rng(0)
    now, before = (
        Volume(rng.integers(0, 4096, (1, 600, 520)).astype(np.float32), np.eye(4), facts={"maximum_value": 4095})
        for _ in range(2)
    )
    alone, both = model.run({"image": now}, {}), model.run({"image": now, "prior": before}, {})
    assert alone.findings[0].concept.meaning == "Pneumonia"
    assert alone.findings[0].probability != both.findings[0].probability


def test_phrases_are_the_mean_of_their_vectors(released: Path) -> None:
    vectors, _ = phrase_vectors(released)
    assert set(vectors) == {"pneumonia/positive", "pneumonia/negative"}
    tower = CxrBert(TEXT, 16).eval()
    state = torch.load(released / "pytorch_model.bin", weights_only=True)
    tower.load_state_dict({k: v for k, v in state.items() if k in tower.state_dict()})
    number = {word: n for n, word in enumerate(WORDS)}
    phrases = [
        "there is no pneumonia",
        "no evidence of pneumonia",
        "no evidence of acute pneumonia",
        "no signs of pneumonia",
    ]
    with torch.no_grad():
        each = [
            tower(
                torch.tensor([[2, *(number[word] for word in phrase.split()), 3]]),
                torch.ones(1, len(phrase.split()) + 2),
            )
            for phrase in phrases
        ]
    expected = torch.nn.functional.normalize(torch.cat(each).mean(0), dim=0).numpy()
    assert np.allclose(vectors["pneumonia/negative"], expected, atol=1e-5)


def test_other_folders_are_refused(released: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(CheckpointMismatch, match="cannot be read"):
        convert(broken, tmp_path)
    for name in (IMAGE_FILE, "pytorch_model.bin", "config.json"):
        (broken / name).write_bytes((released / name).read_bytes())
    with pytest.raises(CheckpointMismatch, match=r"vocab\.txt"):
        convert(broken, tmp_path)
    state = torch.load(broken / IMAGE_FILE, weights_only=True)
    torch.save({k: v for k, v in state.items() if "type_embed" not in k}, broken / IMAGE_FILE)
    with pytest.raises(CheckpointMismatch, match="type_embed"):
        convert(broken, tmp_path)
