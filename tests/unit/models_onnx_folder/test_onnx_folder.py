"""Published classifiers, backbones and segmenters come in, equal torch, and answer as transformers' own pipeline does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.embedding import Embedder
from models.errors import CheckpointMismatch, ExportFailed
from models.external_data import external_files
from models.model import Model
from models.projection_masks import ProjectionSegmenter
from models.session import Session
from models.volume import Volume
from tests.unit.models_onnx_folder.conftest import Published, torch

from models.export.head_fit import Head  # isort: skip
from models.export.onnx_folder import convert  # isort: skip
from models.export.train_head import join  # isort: skip
from onnxruntime.quantization import quantize_dynamic  # isort: skip
from safetensors.torch import load_file, save_file  # isort: skip
from tests.unit.models_onnx_folder import folders  # isort: skip
import transformers  # isort: skip


def radiograph(seed: int = 0, shape: tuple[int, int] = (32, 32)) -> Volume:
    levels = np.random.default_rng(seed).integers(0, 256, (1, *shape)).astype(np.float32)
    return Volume(levels, np.eye(4), facts={"maximum_value": 255})


def pixels(volume: Volume) -> Any:
    """As ViTImageProcessor makes them, by hand: the image has the network's size already."""
    return torch.from_numpy((volume.array_zyx / 255 - 0.5) / 0.5)[None].expand(1, 3, -1, -1)


def proof(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "import.json").read_text())
    print("relative differences between torch and ONNX Runtime:", report["graphs"])
    return report


def test_a_classifier_equals_transformers(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    imported = convert(source, out)
    imported.save_report(out)
    report = proof(out)
    tensors = load_file(source / "model.safetensors")
    assert (report["keys"], report["missing"], report["unexpected"]) == (len(tensors), 0, 0)
    differences = report["graphs"]["main.onnx"]["relative_differences"]
    assert len(differences) == 2 and 0 < max(differences) < 1e-4
    assert report["published"]["sizes"] == ["1x3x32x32", "3x3x32x32"]
    assert report["published"]["compared_with"].startswith("model.safetensors, transformers")
    assert imported.card.provenance["published"]["sha256"] == report["checkpoint_sha256"]
    model = Model(out)
    model.verify()
    assert model.self_test()["main"] < 1e-4
    result = model.run({"image": radiograph()}, {})
    network = transformers.ViTForImageClassification.from_pretrained(source)
    with torch.no_grad():
        wanted = network(pixel_values=pixels(radiograph())).logits.softmax(-1)[0].numpy()
    assert wanted.max() - wanted.min() > 0.05
    # In the card's order, EFFUSION before PNEUMOTHORAX; what is normal is no finding.
    assert [each.concept.meaning for each in result.findings] == ["Pleural effusion", "Pneumothorax"]
    assert [each.probability for each in result.findings] == pytest.approx([wanted[2], wanted[1]], abs=1e-5)


def test_the_manuals_card_is_one(published: Published, out: Path) -> None:
    source = published("classifier")
    page = (Path(__file__).resolve().parents[3] / "docs" / "model-engineer.md").read_text(encoding="utf-8")
    section = page.partition("## Graphs from Hugging Face")[2]
    (source / "card.toml").write_text(section.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    convert(source, out)
    model = Model(out)
    assert [each.concept.meaning for each in model.run({"image": radiograph()}, {}).findings] == [
        "Pneumothorax",
        "Pleural effusion",
    ]
    assert model.card.inputs[0].views == ("PA", "AP")


def test_a_photograph_is_classified_in_colour(published: Published, out: Path) -> None:
    source = published("classifier")
    content = folders.card()
    content["inputs"] = [{"role": "image", "kind": "photograph", "modality": "OP"}]
    folders.write_card(source, content)
    convert(source, out)
    colour = np.random.default_rng(1).integers(0, 256, (3, 32, 32), np.uint8)
    volume = Volume(colour.mean(0)[None].astype(np.float32), np.eye(4), facts={"maximum_value": 255}, colour=colour)
    result = Model(out).run({"image": volume}, {})
    network = transformers.ViTForImageClassification.from_pretrained(source)
    with torch.no_grad():
        wanted = network(pixel_values=torch.from_numpy((colour[None] / 255 - 0.5) / 0.5).float()).logits.softmax(-1)[0]
    assert result.findings[0].probability == pytest.approx(float(wanted[2]), abs=1e-5)


@pytest.mark.parametrize(
    ("vector", "pool"),
    [("pooler_output", ""), ("last_hidden_state", "first_token"), ("last_hidden_state", "mean_tokens")],
)
def test_a_backbone_gives_the_vector_the_card_names(published: Published, out: Path, vector: str, pool: str) -> None:
    source = published("backbone")
    folders.write_card(source, folders.card("embedding", vector=vector, **({"pool": pool} if pool else {})))
    imported = convert(source, out)
    assert max(imported.graphs[0].differences) < 1e-4
    made = Embedder(Model(out)).embedding(radiograph())
    network = transformers.ViTModel.from_pretrained(source)
    with torch.no_grad():
        states = network(pixel_values=pixels(radiograph()))[vector]
    wanted = {"": states, "first_token": states[:, 0], "mean_tokens": states.mean(1)} if pool else {"": states}
    assert made == pytest.approx(wanted[pool][0].numpy(), abs=1e-5)
    assert made.shape == (32,)
    # A site's head is joined to it as to any other backbone.
    join(out / "main.onnx", [Head(np.ones(32, np.float64), 0.5, 0.5, {})], out / "joined.onnx")
    joined = Session(out / "joined.onnx")
    image = pixels(radiograph()).numpy().astype(np.float32)
    assert joined.run({"pixel_values": image})["logits"].item() == pytest.approx(made.sum() + 0.5, abs=1e-4)


def test_a_backbones_vector_is_not_guessed(published: Published, out: Path) -> None:
    source = published("backbone")
    folders.write_card(source, folders.card("embedding"))
    with pytest.raises(
        CheckpointMismatch, match=r"options\.vector is missing: one of pooler_output, last_hidden_state"
    ):
        convert(source, out)
    folders.write_card(source, folders.card("embedding", vector="last_hidden_state"))
    with pytest.raises(CheckpointMismatch, match=r"options\.pool"):
        convert(source, out)
    folders.write_card(source, folders.card("embedding", vector="last_hidden_state", pool="mean_map"))
    with pytest.raises(CheckpointMismatch, match=r"options\.pool"):
        convert(source, out)


def masks_card(*names: str) -> dict[str, Any]:
    content = folders.card("masks", left_out=["background"])
    term = folders.concept("123037004", "Anatomical Structure")
    content["labels"] = [
        {
            "value": n,
            "name": name,
            "finding": folders.concept(name.upper(), name, "99TEST"),
            "category": term,
            "site": term,
        }
        for n, name in enumerate(names, start=1)
    ]
    return content


def test_a_segmenters_masks_are_the_largest_logits(published: Published, out: Path) -> None:
    source = published("segmenter")
    folders.write_card(source, masks_card("heart", "lung"))
    imported = convert(source, out)
    assert max(imported.graphs[0].differences) < 1e-4
    volume = radiograph(4)
    masks = ProjectionSegmenter(Model(out)).masks(volume)
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(source)
    mean, spread = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = torch.from_numpy(volume.array_zyx / 255).expand(3, -1, -1)
    with torch.no_grad():
        logits = network(pixel_values=((image - mean) / spread)[None].float()).logits
        large = torch.nn.functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    best = large.argmax(1)[0].numpy()
    assert logits.shape == (1, 3, 8, 8) and len(np.unique(best)) == 3
    # The card's order: heart is the network's class 2, lung its class 1.
    for mask, number in zip(masks, (2, 1), strict=True):
        assert (mask == (best == number)).mean() > 0.998
    large_one = Volume(np.kron(volume.array_zyx, np.ones((1, 2, 3), np.float32)), np.eye(4), facts=volume.facts)
    result = Model(out).run({"image": large_one}, {})
    assert result.segmentation.mask_zyx.shape == (1, 64, 96)
    assert {region.label for region in result.segmentation.regions} == {"heart", "lung"}
    folders.write_card(source, masks_card("lung"))
    with pytest.raises(CheckpointMismatch, match="lacking heart"):
        convert(source, out)


def test_smaller_weights_are_taken_only_by_name(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    graph = source / "onnx" / "model.onnx"
    quantize_dynamic(graph, graph.with_name("model_int8.onnx"), op_types_to_quantize=["MatMul"])
    assert not convert(source, out).published["weights"]
    graph.unlink()
    with pytest.raises(CheckpointMismatch, match=r"no model\.onnx.*--variant int8"):
        convert(source, out)
    imported = convert(source, out, "int8")
    difference = max(imported.graphs[0].differences)
    assert 1e-4 < difference < 0.1
    assert imported.report()["weights"] == {"kind": "int8"}
    assert imported.card.version == "1+int8"
    assert any("Weights are int8" in each and "%" in each for each in imported.card.caveats)
    assert imported.card.golden["main"].tolerance == 0.03
    with pytest.raises(CheckpointMismatch, match=r"model_q4\.onnx"):
        convert(source, out, "q4")


def test_a_graph_of_other_weights_is_refused(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    file = source / "model.safetensors"
    tensors = load_file(file)
    key = "classifier.weight"
    save_file({**tensors, key: tensors[key] * 1.01}, file, metadata={"format": "pt"})
    with pytest.raises(ExportFailed, match="not the graph of the weights beside it"):
        convert(source, out)
    save_file({name: value for name, value in tensors.items() if name != key}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=r"missing_keys: classifier\.weight"):
        convert(source, out)


def test_without_torch_weights_nothing_is_claimed(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    (source / "model.safetensors").unlink()
    imported = convert(source, out)
    report = imported.report()
    assert report["graphs"]["main.onnx"]["relative_differences"] == []
    assert (report["keys"], report["published"]["compared_with"]) == (0, "")
    assert "could not be compared with the original: no model.safetensors" in " ".join(imported.card.caveats)
    assert Model(out).self_test()["main"] < 1e-6


def test_an_architecture_of_its_own_is_not_compared(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    config = json.loads((source / "config.json").read_text())
    code = {"architectures": ["OurOwnNetwork"], "auto_map": {"AutoModel": "code.OurOwnNetwork"}}
    (source / "config.json").write_text(json.dumps(config | code))
    (source / "code.py").write_text("raise SystemExit('this was run')\n")
    report = convert(source, out).report()
    assert "knows no OurOwnNetwork" in report["published"]["not_compared"]


def test_weights_beside_the_graph_come_along(published: Published, out: Path) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    graph = source / "onnx" / "model.onnx"
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="model.onnx_data", size_threshold=64)
    assert external_files(graph) == ["model.onnx_data"]
    imported = convert(source, out)
    assert max(imported.graphs[0].differences) < 1e-4
    assert list(imported.published["data"]) == ["onnx/model.onnx_data"]
    assert external_files(out / "main.onnx") == []
    assert str(source).encode() not in (out / "main.onnx").read_bytes()


def test_weights_too_large_for_one_file_are_pinned(
    published: Published, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = published("classifier")
    folders.write_card(source, folders.card())
    monkeypatch.setattr("models.export.published_onnx.LARGEST_FILE", 1000)
    card = convert(source, out).card
    assert external_files(out / "main.onnx") == ["main.onnx.data"]
    assert card.files["main_data"].file == "main.onnx.data"
    Model(out).verify()
    assert Model(out).self_test()["main"] < 1e-4
