"""Published CLIP and SigLIP pairs come in with the card's phrases, and say what transformers' own networks say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.embedding import Embedder
from models.errors import CheckpointMismatch, ExportFailed
from models.model import Model
from models.volume import Volume
from tests.unit.models_onnx_folder.conftest import Published, torch

assert torch is not None
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from models.export.onnx_folder import convert  # noqa: E402
from tests.unit.models_onnx_folder import folders  # noqa: E402

CLIP_MEAN, CLIP_SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def radiograph() -> Volume:
    levels = np.random.default_rng(5).integers(0, 256, (1, 32, 32)).astype(np.float32)
    return Volume(levels, np.eye(4), facts={"maximum_value": 255})


def cosines(network: Any, source: Path, mean: Any, spread: Any, phrases: list[str], padded: int = 0) -> Any:
    """Of the image with each phrase, by transformers' networks."""
    image = torch.from_numpy(radiograph().array_zyx / 255).expand(3, -1, -1)
    mean, spread = (torch.tensor(each)[:, None, None] for each in (mean, spread))
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=((image - mean) / spread)[None].float()).pooler_output
        told = []
        for phrase in phrases:
            ids = tokenizer.encode(phrase).ids
            row = torch.tensor([[*ids, *[1] * (padded - len(ids))]])
            told.append(network.get_text_features(input_ids=row).pooler_output)
    unit = torch.nn.functional.normalize
    return (unit(seen) @ unit(torch.cat(told)).T)[0]


def wanted_by_clip(source: Path) -> float:
    network = transformers.CLIPModel.from_pretrained(source)
    entry = folders.dual_card()["options"]["classes"][0]
    words = [*entry["positive"], *entry["negative"]]
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    assert all(0 not in tokenizer.encode(each).ids for each in words)
    # Unit vectors of the positive phrases, their mean at length one, against the one that denies it.
    with torch.no_grad():
        told = [
            network.get_text_features(input_ids=torch.tensor([tokenizer.encode(each).ids])).pooler_output
            for each in words
        ]
    unit = torch.nn.functional.normalize
    positive = unit(torch.cat([unit(each) for each in told[:2]]).mean(0), dim=0)
    found = cosines(network, source, CLIP_MEAN, CLIP_SPREAD, words)
    with torch.no_grad():
        image = torch.from_numpy(radiograph().array_zyx / 255).expand(3, -1, -1)
        mean, spread = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_SPREAD))
        seen = unit(network.get_image_features(pixel_values=((image - mean) / spread)[None].float()).pooler_output)[0]
    margin = float(seen @ positive - found[2])
    return float(1 / (1 + np.exp(-np.exp(2.5) * margin)))


def test_clip_in_two_graphs(published: Published, out: Path) -> None:
    source = published("clip")
    folders.write_card(source, folders.dual_card())
    imported = convert(source, out)
    report = imported.report()
    print("relative differences between torch and ONNX Runtime:", report["graphs"], report["published"]["text"])
    assert (report["keys"], report["missing"], report["unexpected"]) == (
        len(load_file(source / "model.safetensors")),
        0,
        0,
    )
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert len(differences) == 2 and 0 < max(differences) < 1e-4
    assert 0 < report["published"]["text"]["largest_difference"] < 1e-4
    assert imported.card.options["scale"] == pytest.approx(np.exp(2.5), rel=1e-6)
    assert not (out / "text_model.onnx").exists()
    model = Model(out)
    model.verify()
    finding = model.run({"image": radiograph()}, {}).findings[0]
    wanted = wanted_by_clip(source)
    assert abs(wanted - 0.5) > 0.01
    assert finding.probability == pytest.approx(wanted, abs=1e-5)


def test_clip_in_one_graph_without_weights(published: Published, out: Path) -> None:
    """The halves are cut out of it, and the scale is read off its logits."""
    source = published("clip")
    wanted = wanted_by_clip(source)
    folders.write_card(source / "joint", folders.dual_card())
    imported = convert(source / "joint", out)
    assert imported.published["compared_with"] == ""
    assert imported.card.graphs["main"].inputs == ("pixel_values",)
    assert imported.card.graphs["main"].outputs == ("image_embeds",)
    assert imported.card.options["scale"] == pytest.approx(np.exp(2.5), rel=1e-4)
    assert (out / "main.onnx").stat().st_size < 0.7 * (source / "joint" / "onnx" / "model.onnx").stat().st_size
    assert Model(out).run({"image": radiograph()}, {}).findings[0].probability == pytest.approx(wanted, abs=1e-4)
    content = folders.dual_card()
    content["options"]["scale"] = 30.0
    folders.write_card(source / "joint", content)
    with pytest.raises(CheckpointMismatch, match=r"options\.scale = 30\.0; the files hold 12\.18"):
        convert(source / "joint", out)


@pytest.mark.parametrize(
    ("kind", "below", "vector"),
    [("clip", "", "image_embeds"), ("clip", "joint", "image_embeds"), ("siglip", "", "pooler_output")],
)
def test_the_half_that_sees_is_a_backbone(published: Published, out: Path, kind: str, below: str, vector: str) -> None:
    source = published(kind)
    (source / "joint").mkdir(exist_ok=True)
    if below:
        (source / below / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    folders.write_card(source / below, folders.card("embedding", vector=vector))
    imported = convert(source / below, out)
    assert 0 < max(imported.graphs[0].differences) < 1e-4
    made = Embedder(Model(out)).embedding(radiograph())
    assert made.shape == ((16,) if kind == "clip" else (32,))
    assert (abs(np.linalg.norm(made) - 1) < 1e-5) == bool(below)


def test_siglip_pads_its_phrases(published: Published, out: Path) -> None:
    source = published("siglip")
    content = folders.dual_card("sigmoid")
    phrase = "air between the pleurae"
    content["options"]["classes"][0] |= {"positive": ["Air between the pleurae."], "operating_point": 0.05}
    del content["options"]["classes"][0]["negative"]
    folders.write_card(source, content)
    imported = convert(source, out)
    assert max(imported.graphs[0].differences) < 1e-4
    assert imported.published["text"]["largest_difference"] < 1e-4
    assert imported.card.options["bias"] == pytest.approx(-3.0)
    network = transformers.SiglipModel.from_pretrained(source)
    cosine = cosines(network, source, [0.5] * 3, [0.5] * 3, [phrase], padded=12)
    wanted = float(torch.sigmoid(np.exp(2.0) * cosine[0] - 3.0))
    assert Model(out).run({"image": radiograph()}, {}).findings[0].probability == pytest.approx(wanted, abs=1e-5)


def test_what_siglip_lacks_is_named(published: Published, out: Path) -> None:
    source = published("siglip")
    folders.write_card(source, folders.dual_card())
    (source / "model.safetensors").rename(source / "aside")
    with pytest.raises(CheckpointMismatch, match=r"options\.scale and options\.bias are missing"):
        convert(source, out)
    content = folders.dual_card()
    folders.write_card(source, {**content, "options": content["options"] | {"scale": "high"}})
    with pytest.raises(CheckpointMismatch, match=r"options\.scale is no number"):
        convert(source, out)
    folders.write_card(source, {**content, "options": content["options"] | {"scale": 7.5, "bias": -2}})
    assert convert(source, out).card.options["bias"] == -2.0
    (source / "aside").rename(source / "model.safetensors")
    folders.write_card(source, content)
    (source / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<nothing>"}}))
    with pytest.raises(CheckpointMismatch, match="lacks the mark"):
        convert(source, out)


def test_what_a_pair_lacks_is_named(published: Published, out: Path) -> None:
    source = published("clip")
    folders.write_card(source, folders.dual_card())
    file = source / "model.safetensors"
    tensors = load_file(file)
    key = "text_model.encoder.layers.0.mlp.fc1.weight"
    save_file({**tensors, key: tensors[key] * 1.5}, file, metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match=r"text_model\.onnx is not the graph of the weights"):
        convert(source, out)
    file.unlink()
    with pytest.raises(CheckpointMismatch, match=r"options\.scale is missing"):
        convert(source, out)
    content = folders.dual_card()
    content["options"]["classes"][0]["positive"] = ["air " * 20]
    folders.write_card(source, {**content, "options": content["options"] | {"scale": 10.0}})
    with pytest.raises(CheckpointMismatch, match="the network reads 16"):
        convert(source, out)
    content["options"]["classes"] = []
    folders.write_card(source, {**content, "options": content["options"] | {"scale": 10.0}})
    with pytest.raises(CheckpointMismatch, match=r"card\.toml: options\.classes"):
        convert(source, out)
    folders.write_card(source, folders.dual_card())
    (source / "tokenizer.json").unlink()
    with pytest.raises(CheckpointMismatch, match=r"no tokenizer\.json"):
        convert(source, out)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "chinese_clip"}))
    with pytest.raises(CheckpointMismatch, match="model_type chinese_clip: known are clip, siglip"):
        convert(source, out)
