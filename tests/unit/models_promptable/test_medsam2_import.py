"""MedSAM2's released layout converts, equals an independent implementation, and its slices are followed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model
from models.prompts import BoxPrompt
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export.checkpoint import Layout  # noqa: E402
from models.export.medsam2 import convert, released  # noqa: E402
from models.export.sam2_network import NAMES, FrameDecoder, FrameEncoder, Sam2, Sam2Shape  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

SMALL = Sam2Shape(128, 16, 1, (1, 1, 2, 1), (8, 4, 6, 2), (3,), 4, 64, 64)
_TO_TRANSFORMERS = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv", r"vision_encoder.neck.convs.\1"),
    (r"^sam_prompt_encoder", "prompt_encoder"),
    (r"^sam_mask_decoder", "mask_decoder"),
    (r"^no_mem_embed", "no_memory_embedding"),
    (r"patch_embed\.proj", "patch_embed.projection"),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"out_proj", "o_proj"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"\.mlp\.layers\.0", ".mlp.proj_in"),
    (r"\.mlp\.layers\.1", ".mlp.proj_out"),
    (r"(mlps\.\d|head)\.layers\.0", r"\1.proj_in"),
    (r"(mlps\.\d|head)\.layers\.1", r"\1.layers.0"),
    (r"(mlps\.\d|head)\.layers\.2", r"\1.proj_out"),
)


def small(seed: int = 1) -> Sam2:
    sam = randomised(Sam2(SMALL), seed, 0.12)
    assert isinstance(sam, Sam2)
    return sam


def test_the_released_layout_without_memory_has_311_keys() -> None:
    layout = Layout.load("medsam2")
    with torch.device("meta"):
        sam = Sam2(Sam2Shape())
    assert NAMES.shapes(sam) == layout.shapes
    assert len(layout.shapes) == 311
    assert sum(int(np.prod(shape)) for shape in layout.shapes.values()) == pytest.approx(31.44e6, rel=1e-3)
    assert released({key: torch.empty(shape, device="meta") for key, shape in layout.shapes.items()}) == Sam2Shape()


def test_the_network_equals_another_implementation() -> None:
    transformers = pytest.importorskip("transformers", reason="the comparison needs transformers")
    sam = small()
    config = transformers.Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "num_attention_heads": 1,
                "image_size": [128, 128],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 6, 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [4, 4],
            },
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 64,
        },
        prompt_encoder_config={"hidden_size": 64, "image_size": 128},
        mask_decoder_config={"hidden_size": 64, "mlp_dim": 64, "iou_head_hidden_dim": 64},
    )
    theirs = transformers.Sam2Model(config).eval()
    renamed = {}
    for key, value in NAMES.published(sam).items():
        for pattern, name in _TO_TRANSFORMERS:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    points = [renamed.pop(f"prompt_encoder.point_embeddings.{n}.weight") for n in range(4)]
    renamed["prompt_encoder.point_embed.weight"] = torch.cat(points)
    places = renamed["prompt_encoder.shared_embedding.positional_embedding"]
    renamed["shared_image_embedding.positional_embedding"] = places
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert (list(missing), list(unexpected)) == ([], [])
    image = torch.randn(1, 3, 128, 128)
    boxes = torch.tensor([[[10.0, 20.0, 70.0, 90.0]], [[0.0, 0.0, 127.0, 127.0]], [[30.5, 5.25, 40.0, 99.0]]])
    with torch.no_grad():
        seen = FrameEncoder(sam)(image)
        masks, scores = FrameDecoder(sam)(*seen, boxes)
        finest, finer, coarse = theirs.get_image_embeddings(image)
        answer = theirs(pixel_values=image, input_boxes=boxes[:, 0][None], multimask_output=False)
    for mine, other in zip(seen, (coarse, finer, finest), strict=True):
        assert torch.allclose(mine, other, atol=2e-4 * float(other.abs().max()))
    assert torch.allclose(masks[:, 0], answer.pred_masks[0, :, 0], atol=2e-4 * float(masks.abs().max()))
    assert torch.allclose(scores[:, 0], answer.iou_scores[0, :, 0], atol=1e-4)
    assert float(masks.std()) > 1e-2


@pytest.mark.slow
def test_the_checkpoint_becomes_a_model(tmp_path: Path) -> None:
    sam = small(2)
    state = dict(NAMES.published(sam))
    memory = {"memory_attention.norm.weight": torch.ones(4), "maskmem_tpos_enc": torch.ones(7, 1, 1, 4)}
    torch.save({"model": state | memory | {"obj_ptr_proj.layers.0.bias": torch.ones(2)}}, tmp_path / "MedSAM2.pt")
    report = convert(tmp_path / "MedSAM2.pt", tmp_path, shape=SMALL).report()
    differences = [each for graph in report["graphs"].values() for each in graph["relative_differences"]]
    print("medsam2", report["keys"], {n: g["exporter"] for n, g in report["graphs"].items()}, differences)
    assert report["keys"] == len(state) and len(differences) == 5 and max(differences) < 1e-4
    model = Model(tmp_path)
    model.verify()
    model.self_test()
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(1, 900, (4, 70, 90)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    planes = dict(model.planes(volume, [BoxPrompt(1, 1, 10, 10, 50, 60)]))
    adapter = model._adapter
    grey = rng.uniform(0, 255, (70, 90)).astype(np.uint8)
    image = torch.from_numpy(adapter.options.image.image_of(grey))  # type: ignore[union-attr]
    box = torch.tensor([[[10.0 * 128 / 90, 10.0 * 128 / 70, 60.0 * 128 / 90, 50.0 * 128 / 70]]])
    with torch.no_grad():
        logits, _ = FrameDecoder(sam)(*FrameEncoder(sam)(image), box)
        likely = torch.nn.functional.interpolate(logits.sigmoid(), (70, 90), mode="bilinear")[0, 0].numpy()
    made = adapter.masks(adapter.embedding(grey), [BoxPrompt(1, 0, 10, 10, 50, 60)], (70, 90))  # type: ignore[union-attr]
    assert np.abs(made[0] - likely).max() < 1e-3
    assert next(iter(planes.values())).shape == (70, 90)
    # Followed from slice to slice, within the limits the card sets.
    model.segment({"image": volume}, [BoxPrompt(1, 1, 10, 10, 50, 60, follow=True)], {})
    for change in ({"no_mem_embed": None}, {"another.weight": torch.ones(1)}):
        broken = {key: value for key, value in (state | change).items() if value is not None}
        torch.save({"model": broken}, tmp_path / "broken.pt")
        with pytest.raises(CheckpointMismatch, match=next(iter(change)).replace(".", r"\.")):
            convert(tmp_path / "broken.pt", tmp_path, shape=SMALL)
    torch.save({"model": state}, tmp_path / "small.pt")
    with pytest.raises(CheckpointMismatch, match="not a checkpoint of MedSAM2"):
        convert(tmp_path / "small.pt", tmp_path)
