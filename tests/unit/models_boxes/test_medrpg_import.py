"""MedRPG converts from a file of its layout, equals torch's own layers, and puts its boxes on the radiograph."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import CheckpointMismatch
from models.model import Model
from models.results import Outcome
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.bert_network import BertShape  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.medrpg import WORDS, convert, phrases, shape_of  # noqa: E402
from models.export.medrpg_network import Grounder, GrounderShape, sine_positions  # noqa: E402
from models.export.text_tower import batch, tokenizer  # noqa: E402

KEYS, MILLIONS = 622, 149.9
SIDE, SIZE = 3, 96
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_release(folder: Path) -> dict[str, Any]:
    """The released file and the files of its text model beside it."""
    words = [*SPECIAL, *dict.fromkeys(" ".join(phrases()).lower().split())]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    config = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"intermediate_size": 24, "max_position_embeddings": 32, "type_vocab_size": 2}
    (folder / "config.json").write_text(json.dumps(config))
    text = BertShape(len(words), 16, 2, 2, 24, 32)
    network = Grounder(GrounderShape((1, 1, 1, 1), 4, 32, 8, (40, 2), (48, 2), SIDE, text))
    generator = torch.Generator().manual_seed(4)
    tensors = {}
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            tensors[key] = torch.rand(value.shape, generator=generator) + 0.5
        else:
            scale = bool(re.search(r"(norm\d?|bn\d|LayerNorm|downsample\.1)\.weight$", key))
            tensors[key] = torch.randn(value.shape, generator=generator) * 0.3 + scale
    stale = {"textmodel.bert.embeddings.position_ids": torch.arange(32)[None]}
    torch.save({"model": {**tensors, **stale}, "epoch": 9}, folder / "best_miou_checkpoint.pth")
    return tensors


def plainly(tensors: dict[str, Any], source: Path, image: Any, padding: Any) -> Any:
    """Boxes with torch's own transformer layers, phrase by phrase; convolutions and BERT are tested elsewhere."""
    network = Grounder(shape_of(tensors, source)).eval()
    network.load_state_dict(tensors)
    empty = torch.nn.functional.interpolate(padding[None], (SIDE, SIDE))[0].bool().flatten(1)
    features = network.visumodel["input_proj"](network.visumodel["backbone"][0]["body"](image))
    x = features.flatten(2).permute(2, 0, 1)
    x = encoded(tensors, "visumodel.transformer.", x, positions(~empty.view(1, SIDE, SIDE)).permute(1, 0, 2), empty)
    places = network.visu_proj(x)
    ids, mask = batch([each.lower() for each in phrases()], tokenizer(source), longest=WORDS, padded_to=WORDS)
    boxes = []
    for row in range(len(ids)):
        text = network.text_proj(network.textmodel["bert"](ids[row : row + 1], mask[row : row + 1])[-1]).permute(
            1, 0, 2
        )
        whole = torch.cat([network.reg_token.weight[:, None], text, places])
        unseen = torch.cat([torch.zeros(1, 1, dtype=torch.bool), mask[row : row + 1] == 0, empty], 1)
        whole = encoded(tensors, "vl_transformer.", whole, network.vl_pos_embed.weight[:, None], unseen)
        box = whole[0]
        for number, layer in enumerate(network.bbox_embed["layers"]):
            box = layer(box) if number == 2 else torch.relu(layer(box))
        boxes.append(box.sigmoid()[0])
    return torch.stack(boxes)


def encoded(tensors: dict[str, Any], prefix: str, x: Any, places: Any, unseen: Any) -> Any:
    for number in range(2):
        own = {k.removeprefix(f"{prefix}encoder.layers.{number}."): v for k, v in tensors.items()}
        attention = torch.nn.MultiheadAttention(32, 8)
        attention.load_state_dict({k: own[f"self_attn.{k}"] for k in attention.state_dict()})
        placed = x + places
        x = x + attention(placed, placed, x, key_padding_mask=unseen)[0]
        x = torch.nn.functional.layer_norm(x, (32,), own["norm1.weight"], own["norm1.bias"])
        wide = torch.relu(torch.nn.functional.linear(x, own["linear1.weight"], own["linear1.bias"]))
        x = x + torch.nn.functional.linear(wide, own["linear2.weight"], own["linear2.bias"])
        x = torch.nn.functional.layer_norm(x, (32,), own["norm2.weight"], own["norm2.bias"])
    return x


def positions(seen: Any) -> Any:
    """DETR's, one number after the other."""
    made = torch.zeros(1, SIDE * SIDE, 32)
    for row in range(SIDE):
        for column in range(SIDE):
            down = seen[0, : row + 1, column].sum() / (seen[0, :, column].sum() + 1e-6)
            across = seen[0, row, : column + 1].sum() / (seen[0, row].sum() + 1e-6)
            for half, part in enumerate((down, across)):
                for n in range(16):
                    angle = float(part) * 2 * math.pi / 10000 ** (2 * (n // 2) / 16)
                    made[0, row * SIDE + column, half * 16 + n] = math.cos(angle) if n % 2 else math.sin(angle)
    return made


def test_positions_are_detrs() -> None:
    seen = torch.ones(1, SIDE, SIDE)
    seen[:, 0], seen[:, :, 2] = 0, 0
    assert torch.allclose(sine_positions(seen, 32), positions(seen.bool()), atol=1e-5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Model]:
    source, folder = (tmp_path_factory.mktemp(name) for name in ("in", "out"))
    tensors = write_release(source)
    report = convert(source / "best_miou_checkpoint.pth", folder).report()
    assert (report["missing"], report["unexpected"]) == (0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    print(differences)
    assert len(differences) == 3 and max(differences) < 1e-5
    return tensors, source, Model(folder)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(200, 200), (150, 230), (260, 140)])
def test_the_boxes_are_those_of_the_original(made: tuple[dict[str, Any], Path, Model], shape: tuple[int, int]) -> None:
    tensors, source, model = made
    model.verify()
    model.self_test()
    smooth = np.add.outer(np.sin(np.arange(shape[0]) / 9), np.cos(np.arange(shape[1]) / 7)) * 60 + 120
    grey = smooth.astype(np.uint8)
    volume = Volume(grey[None].astype(np.float32), np.eye(4), facts={"maximum_value": 255})
    # torchvision's resize by Pillow, ToTensor, Normalize, and NormalizeAndPad of datasets/transforms.py.
    ratio = SIZE / max(shape)
    rows, columns = round(shape[0] * ratio), round(shape[1] * ratio)
    small = np.asarray(Image.fromarray(grey).resize((columns, rows), Image.Resampling.BILINEAR), np.float32) / 255
    mean, std = (np.array(each, np.float32)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    top, left = round((SIZE - rows) / 2 - 0.1), round((SIZE - columns) / 2 - 0.1)
    picture, padding = np.zeros((1, 3, SIZE, SIZE), np.float32), np.ones((1, SIZE, SIZE), np.float32)
    picture[0, :, top : top + rows, left : left + columns] = (small[None] - mean) / std
    padding[0, top : top + rows, left : left + columns] = 0
    ours, own_padding, _ = model._adapter._square(volume)  # type: ignore[union-attr]
    assert np.array_equal(own_padding, padding)
    # Pillow rounds to whole levels.
    assert np.abs(ours - picture).max() < 1.01 / 255 / 0.224
    with torch.no_grad():
        expected = plainly(tensors, source, torch.from_numpy(ours), torch.from_numpy(padding)).numpy()
    session = model.session("main")
    boxes = session.run({"image": ours, "padding": padding})["boxes"]
    assert boxes.shape == (1, 5, 4) and np.abs(boxes[0] - expected).max() < 1e-5
    assert np.abs(boxes[0] - boxes[0, :1]).max() > 1e-3  # phrases differ
    result = model.run({"image": volume}, {})
    assert result.outcome is Outcome.FOUND and "always_a_box" in result.limitations
    for mark, (x, y, wide, high) in zip(result.marks, expected * SIZE, strict=True):
        corners = (((y - high / 2) - top) / ratio - 0.5, ((x - wide / 2) - left) / ratio - 0.5)
        for place, wanted, length in zip(mark.points_yx[0], corners, shape, strict=True):
            assert place == pytest.approx(min(max(wanted, 0), length - 1), abs=0.05)


def test_the_released_layout() -> None:
    layout = Layout.load("medrpg")
    with torch.device("meta"):
        state = Grounder(GrounderShape()).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == layout.shapes
    assert len(layout.shapes) == KEYS
    assert sum(math.prod(shape) for shape in layout.shapes.values()) / 1e6 == pytest.approx(MILLIONS, abs=0.06)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}:\S+", source) for source in layout.source.split())


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "another grid"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    tensors = write_release(tmp_path)
    key = "vl_transformer.encoder.layers.1.self_attn.in_proj_bias"
    told = re.escape(key)
    if change == "missing":
        del tensors[key]
    elif change == "unexpected":
        tensors["class_embed.weight"], told = torch.zeros(2), "class_embed"
    elif change == "another shape":
        tensors[key] = torch.zeros(3)
    else:
        tensors["vl_pos_embed.weight"], told = torch.zeros(28, 32), "28 rows"
    path = tmp_path / "best_miou_checkpoint.pth"
    torch.save({"model": tensors}, path)
    with pytest.raises(CheckpointMismatch, match=told):
        convert(path, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))
