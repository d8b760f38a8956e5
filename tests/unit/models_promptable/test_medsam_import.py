"""MedSAM's released layout converts, equals an independent implementation, and nothing else is taken for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch, CheckpointUnsafe
from models.model import Model
from models.prompts import BoxPrompt
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.medsam import convert  # noqa: E402
from models.export.sam_layout import shape_of  # noqa: E402
from models.export.sam_network import BoxDecoder, Sam, SamShape  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = SamShape(image_size=128, width=48, depth=3, heads=3, window=5, global_blocks=(1,), decoder_mlp=128)
_TO_TRANSFORMERS = (
    (r"^image_encoder\.neck\.0", "vision_encoder.neck.conv1"),
    (r"^image_encoder\.neck\.1", "vision_encoder.neck.layer_norm1"),
    (r"^image_encoder\.neck\.2", "vision_encoder.neck.conv2"),
    (r"^image_encoder\.neck\.3", "vision_encoder.neck.layer_norm2"),
    (r"^image_encoder\.blocks", "vision_encoder.layers"),
    (r"^image_encoder", "vision_encoder"),
    (r"patch_embed\.proj", "patch_embed.projection"),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"point_embeddings", "point_embed"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"(mlps\.\d|head)\.layers\.0", r"\1.proj_in"),
    (r"(mlps\.\d|head)\.layers\.1", r"\1.layers.0"),
    (r"(mlps\.\d|head)\.layers\.2", r"\1.proj_out"),
)


def small_sam(seed: int = 3) -> Sam:
    """Random weights far enough from zero that an error shows."""
    torch.manual_seed(seed)
    sam = Sam(SMALL).eval()
    for parameter in sam.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.06)
    sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.normal_()
    return sam


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sam, Path]:
    """A small checkpoint as the training script saves it, converted."""
    sam, folder = small_sam(), tmp_path_factory.mktemp("medsam")
    path = folder / "small.pth"
    torch.save({"model": {f"module.{key}": value for key, value in sam.state_dict().items()}, "epoch": 7}, path)
    imported = convert(path, folder)
    report = imported.report()
    assert (report["keys"], report["missing"], report["unexpected"]) == (len(sam.state_dict()), 0, 0)
    differences = [d for graph in report["graphs"].values() for d in graph["relative_differences"]]
    print("largest relative difference between torch and ONNX Runtime:", max(differences))
    assert max(differences) < 1e-4
    return sam, folder


def test_the_released_layout_has_314_keys() -> None:
    layout = Layout.load("medsam")
    with torch.device("meta"):
        real = Sam(SamShape())
    assert {key: tuple(value.shape) for key, value in real.state_dict().items()} == layout.shapes
    assert len(layout.shapes) == 314
    assert sum(int(np.prod(shape)) for shape in layout.shapes.values()) == pytest.approx(93.74e6, rel=1e-4)
    assert "bowang-lab/MedSAM@" in layout.source


def test_sizes_are_read_from_the_tensors() -> None:
    assert shape_of(small_sam().state_dict(), "rel_pos_h", "SAM") == SMALL
    with torch.device("meta"):
        assert shape_of(Sam(SamShape()).state_dict(), "rel_pos_h", "SAM") == SamShape()


def test_the_network_equals_another_implementation() -> None:
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    sam = small_sam()
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": SMALL.width,
            "output_channels": SMALL.prompt_width,
            "num_hidden_layers": SMALL.depth,
            "num_attention_heads": SMALL.heads,
            "image_size": SMALL.image_size,
            "patch_size": SMALL.patch,
            "window_size": SMALL.window,
            "global_attn_indexes": list(SMALL.global_blocks),
            "mlp_dim": 4 * SMALL.width,
        },
        prompt_encoder_config={"image_size": SMALL.image_size, "patch_size": SMALL.patch},
        mask_decoder_config={"mlp_dim": SMALL.decoder_mlp},
    )
    theirs = transformers.SamModel(config).eval()
    renamed = {}
    for key, value in sam.state_dict().items():
        for pattern, name in _TO_TRANSFORMERS:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    renamed["shared_image_embedding.positional_embedding"] = renamed[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert (list(missing), list(unexpected)) == ([], [])
    image = torch.rand(1, 3, SMALL.image_size, SMALL.image_size)
    boxes = torch.tensor([[[10.0, 20.0, 70.0, 90.0]], [[0.0, 0.0, 127.0, 127.0]], [[30.5, 5.25, 40.0, 99.0]]])
    with torch.no_grad():
        embedding = sam.image_encoder(image)
        masks, scores = BoxDecoder(sam)(embedding, boxes)
        other = theirs.vision_encoder(image).last_hidden_state
        answer = theirs(image_embeddings=other, input_boxes=boxes[:, 0][None], multimask_output=False)
    assert torch.allclose(embedding, other, atol=2e-4 * float(other.abs().max()))
    assert torch.allclose(masks[:, 0], answer.pred_masks[0, :, 0], atol=2e-4 * float(masks.abs().max()))
    assert torch.allclose(scores[:, 0], answer.iou_scores[0, :, 0], atol=1e-4)
    assert float(masks.std()) > 1e-2


def test_head_by_head_is_the_same() -> None:
    sam = small_sam()
    lean = Sam(SMALL, lean=True).eval()
    lean.load_state_dict(sam.state_dict())
    image = torch.rand(1, 3, SMALL.image_size, SMALL.image_size)
    with torch.no_grad():
        assert torch.allclose(sam.image_encoder(image), lean.image_encoder(image), atol=1e-5)


def test_the_folder_runs_as_a_model(converted: tuple[Sam, Path]) -> None:
    sam, folder = converted
    model = Model(folder)
    model.verify()
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(1, 900, (2, 70, 90)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    result = model.segment({"image": volume}, [BoxPrompt(1, 1, 10, 10, 50, 60)], {})
    assert result.model.digest == model.digest
    # The mask is the network's own: the same image and box through torch.
    adapter = model._adapter
    grey = rng.uniform(0, 255, (70, 90)).astype(np.uint8)
    image = torch.from_numpy(adapter.options.image.image_of(grey))  # type: ignore[union-attr]
    assert image.shape == (1, 3, 128, 128)
    assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    box = torch.tensor([[[10.0 * 128 / 90, 10.0 * 128 / 70, 60.0 * 128 / 90, 50.0 * 128 / 70]]])
    with torch.no_grad():
        logits, _ = BoxDecoder(sam)(sam.image_encoder(image), box)
        likely = torch.nn.functional.interpolate(logits.sigmoid(), (70, 90), mode="bilinear")[0, 0].numpy()
    planes = adapter.masks(adapter.embedding(grey), [BoxPrompt(1, 0, 10, 10, 50, 60)], (70, 90))  # type: ignore[union-attr]
    assert np.abs(planes[0] - likely).max() < 1e-3


def _saved(tmp_path: Path, change: str) -> Path:
    tensors = dict(small_sam().state_dict())
    if change == "missing":
        del tensors["mask_decoder.iou_token.weight"]
    elif change == "unexpected":
        tensors["text_encoder.weight"] = torch.zeros(2)
    elif change == "another shape":
        tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 99)
    elif change == "something else":
        tensors = {"conv1.weight": torch.zeros(3)}
    path = tmp_path / "changed.pth"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize("change", ["missing", "unexpected", "another shape", "something else"])
def test_other_layouts_are_refused(tmp_path: Path, change: str) -> None:
    with pytest.raises(CheckpointMismatch):
        convert(_saved(tmp_path, change), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_files_that_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(small_sam(), path)
    with pytest.raises(CheckpointUnsafe):
        convert(path, tmp_path)
    scripted = tmp_path / "scripted.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), scripted)
    with pytest.raises(CheckpointUnsafe):
        convert(scripted, tmp_path)


def test_safetensors_of_the_same_keys_convert(converted: tuple[Sam, Path]) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="comes with transformers")
    sam, folder = converted
    path = folder / "small.safetensors"
    safetensors.save_file({key: value.contiguous() for key, value in sam.state_dict().items()}, path)
    from models.export.checkpoint import read_checkpoint

    assert read_checkpoint(path).keys() == sam.state_dict().keys()
    path.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00not json")
    with pytest.raises(CheckpointMismatch):
        read_checkpoint(path)


def test_the_report_is_json(converted: tuple[Sam, Path], tmp_path: Path) -> None:
    from models.export.__main__ import main

    assert main(["medsam", str(converted[1] / "absent.pth"), str(tmp_path)]) == 1
    assert main(["medsam", str(converted[1] / "small.pth"), str(tmp_path)]) == 0
    assert json.loads((tmp_path / "import.json").read_text())["model"] == "medsam"


@pytest.mark.parametrize("as_folder", [False, True])
def test_the_public_points_only_export_is_refused_with_the_reason(tmp_path: Path, as_folder: bool) -> None:
    """``onnx/prompt_encoder_mask_decoder.onnx`` as Xenova/medsam-vit-base has it, by its inputs."""
    import onnx
    from onnx import TensorProto, helper

    folder = tmp_path / "medsam-vit-base" / "onnx"
    folder.mkdir(parents=True)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ("input_points", "input_labels", "image_embeddings", "image_positional_embeddings")
    ]
    output = helper.make_tensor_value_info("pred_masks", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", ["image_embeddings"], ["pred_masks"])
    path = folder / "prompt_encoder_mask_decoder.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "decoder", inputs, [output])), path)
    with pytest.raises(CheckpointMismatch, match="takes points only; MedSAM was trained on boxes"):
        convert(tmp_path / "medsam-vit-base" if as_folder else path, tmp_path)
