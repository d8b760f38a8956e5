"""LiteMedSAM's and SAM-Med3D's released layouts convert, and compute what the released code computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import CheckpointMismatch
from models.model import Model
from models.prompts import BoxPrompt
from models.volume import Volume

torch = pytest.importorskip("torch", reason="conversion needs torch")
pytest.importorskip("onnxscript", reason="conversion needs onnxscript")

from models.export import lite_medsam, sam_layout, sam_med3d  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from models.export.sam3d_network import VIT_B_ORI, ClickEncoder, CubeAttention, Sam3d  # noqa: E402
from models.export.sam_network import SamShape  # noqa: E402
from models.export.tinyvit_network import LiteSam, TinyVitShape, _Block, offset_numbers  # noqa: E402
from tests.unit.models_image_text.released import randomised  # noqa: E402

LITE = TinyVitShape(64, (8, 16, 24, 32), (1, 1, 2, 1), (1, 2, 3, 4), (1, 5, 7, 5), 256, 64)
CUBE = SamShape(64, 16, 24, 3, 2, 3, (1,), 384, 8, 64)


def test_released_layouts() -> None:
    with torch.device("meta"):
        cube = {key: tuple(value.shape) for key, value in Sam3d(VIT_B_ORI).state_dict().items()}
    for system, shapes, keys, millions in (
        ("lite-medsam", lite_medsam.real_size(), 435, 9.80),
        ("sam-med3d", cube, 324, 100.51),
    ):
        layout = Layout.load(system)
        assert layout.shapes == shapes
        assert len(shapes) == keys
        assert sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_sizes_are_read_from_the_tensors() -> None:
    with torch.device("meta"):
        assert sam_layout.shape_of(Sam3d(VIT_B_ORI).state_dict(), "rel_pos_d", "SAM-Med3D") == VIT_B_ORI
        found = lite_medsam.shape_of(LiteSam(TinyVitShape()).state_dict(), 256)
        assert found.widths == TinyVitShape().widths and found.depths == TinyVitShape().depths
        assert found.heads[1:] == TinyVitShape().heads[1:] and found.windows[1:] == TinyVitShape().windows[1:]


def test_positions_in_a_cube_are_added_as_trained() -> None:
    """``image_encoder3D.py`` adds each table along the last key axis; written out voxel by voxel here."""
    side = 3
    attention = randomised(CubeAttention(8, 2, side), 1, 0.5)
    x = torch.randn(1, side, side, side, 8)
    q, k, v = attention.qkv(x).reshape(side**3, 3, 2, 4).permute(1, 2, 0, 3)
    made = []
    for n in range(2):
        scores = (q[n] * 0.5) @ k[n].T
        placed = q[n].reshape(side, side, side, 4)
        grid = scores.reshape([side] * 6).clone()
        for d, h, w, kd, kh, kw in np.ndindex(*[side] * 6):
            by_d = placed[d, h, w] @ attention.rel_pos_d[d - kw + side - 1]
            by_h = placed[d, h, kd] @ attention.rel_pos_h[h - kw + side - 1]
            by_w = placed[d, h, kh] @ attention.rel_pos_w[kh - kw + side - 1]
            grid[d, h, w, kd, kh, kw] += by_d + by_h + by_w
        made.append(grid.reshape(side**3, side**3).softmax(-1) @ v[n])
    expected = attention.proj(torch.cat(made, -1)).reshape(x.shape)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_places_of_the_grid_have_the_second_axis_first() -> None:
    encoder = randomised(ClickEncoder(CUBE), 2, 1.0)
    grid = encoder.grid()[0]
    size = CUBE.grid
    for x, y, z in ((0, 1, 2), (3, 0, 1)):
        place = torch.tensor([(y + 0.5) / size, (x + 0.5) / size, (z + 0.5) / size])
        angles = 2 * torch.pi * ((2 * place - 1) @ encoder.pe_layer.positional_encoding_gaussian_matrix)
        assert torch.allclose(grid[:, x, y, z], torch.cat([angles.sin(), angles.cos(), angles.sin()]), atol=1e-5)


def test_windows_of_tinyvit_do_not_mix_and_their_biases_are_by_distance() -> None:
    numbers = offset_numbers(3)
    seen: dict[tuple[int, int], int] = {}
    for a in range(9):
        for b in range(9):
            distance = (abs(a // 3 - b // 3), abs(a % 3 - b % 3))
            assert seen.setdefault(distance, int(numbers[a, b])) == numbers[a, b]
    assert sorted(seen.values()) == list(range(9))
    block = randomised(_Block(8, 2, 4, 8), 3)
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[0, 0, 0, 0] += 5
    with torch.no_grad():
        moved = (block(changed) - block(x)).abs().amax((0, 1))
    # The window of four, and what the convolution behind it reaches.
    assert float(moved[5:, :].max()) < 1e-5 < float(moved[3, 3])
    assert float(moved[:, 5:].max()) < 1e-5


@pytest.mark.slow
def test_lite_medsam_becomes_a_model(tmp_path: Path) -> None:
    sam = LiteSam(LITE)
    randomised(sam, 4)
    torch.save(sam.state_dict(), tmp_path / "lite_medsam.pth")
    report = lite_medsam.convert(tmp_path / "lite_medsam.pth", tmp_path, size=64).report()
    differences = [each for graph in report["graphs"].values() for each in graph["relative_differences"]]
    print("lite-medsam", report["keys"], differences)
    assert max(differences) < 1e-4
    model = Model(tmp_path)
    model.verify()
    model.self_test()
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(1, 900, (2, 60, 90)).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    planes = dict(model.planes(volume, [BoxPrompt(1, 1, 10, 10, 50, 60)]))
    assert next(iter(planes.values())).shape == (60, 90)
    state = dict(sam.state_dict())
    del state["image_encoder.layers.2.blocks.1.attn.attention_biases"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(CheckpointMismatch, match="attention_biases"):
        lite_medsam.convert(tmp_path / "broken.pth", tmp_path, size=64)


@pytest.mark.slow
def test_sam_med3d_becomes_a_model(tmp_path: Path) -> None:
    sam = Sam3d(CUBE)
    randomised(sam, 5)
    torch.save({"model_state_dict": sam.state_dict(), "epoch": 3}, tmp_path / "turbo.pth")
    assert sam_layout.shape_of(sam.state_dict(), "rel_pos_d", "SAM-Med3D") == CUBE
    report = sam_med3d.convert(tmp_path / "turbo.pth", tmp_path).report()
    differences = [each for graph in report["graphs"].values() for each in graph["relative_differences"]]
    print(
        "sam-med3d", report["keys"], {name: graph["exporter"] for name, graph in report["graphs"].items()}, differences
    )
    assert len(differences) == 4 and max(differences) < 1e-4
    model = Model(tmp_path)
    model.verify()
    model.self_test()
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(1, 900, (20, 60, 60)).astype(np.float32), np.diag([1.0, 1.0, 3.0, 1.0]))
    result = model.segment({"image": volume}, [BoxPrompt(1, 10, 20, 20, 40, 40)], {})
    assert result.evidence["targets"] in (0, 1)
    torch.save({key: value for key, value in sam.state_dict().items() if "no_mask" not in key}, tmp_path / "b.pth")
    with pytest.raises(CheckpointMismatch, match="no_mask_embed"):
        sam_med3d.convert(tmp_path / "b.pth", tmp_path)
