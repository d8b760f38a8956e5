"""At the released size every network has the released keys and shapes, with not a byte of weights."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="conversion needs torch")

from models.export import fleming_vl, hulu_med, llava, medgemma, qwen_vl  # noqa: E402
from models.export.checkpoint import Layout  # noqa: E402
from tests.unit.models_generation import real_sizes  # noqa: E402

Shapes = dict[str, tuple[int, ...]]


def shapes(module: torch.nn.Module, prefix: str = "") -> Shapes:
    return {prefix + key: tuple(value.shape) for key, value in module.state_dict().items()}


def published(system: str, layout: Shapes) -> Shapes:
    """What the networks of a system hold, by the names its files have."""
    config: dict[str, Any] = {
        "llava-med": real_sizes.LLAVA_MED,
        "bimedix2": real_sizes.BIMEDIX2,
        "medgemma": real_sizes.MEDGEMMA,
        "lingshu": real_sizes.LINGSHU,
        "med-r1": real_sizes.MED_R1,
        "fleming-vl": real_sizes.FLEMING_VL,
        "hulu-med": real_sizes.HULU_MED,
    }[system]
    text, head = "model.", "lm_head.weight"
    if system in ("llava-med", "bimedix2"):
        vision, language = llava.networks(config, layout)
        keys = llava.VISION_KEYS
    elif system == "medgemma":
        vision, language = medgemma.networks(config)
        keys, text, head = medgemma.VISION_KEYS, "language_model.model.", ""
    elif system == "fleming-vl":
        vision, language = fleming_vl.networks(config)
        keys, text, head = fleming_vl.VISION_KEYS, "language_model.model.", "language_model.lm_head.weight"
    elif system == "hulu-med":
        vision, language = hulu_med.networks(config)
        keys = hulu_med.VISION_KEYS
    else:
        vision, language = qwen_vl.networks(config)
        keys = qwen_vl.VISION_KEYS
        head = head if system == "lingshu" else ""
    held = {
        theirs + key.removeprefix(ours): shape
        for theirs, ours in keys.items()
        for key, shape in shapes(vision).items()
        if key.startswith(ours)
    }
    words = shapes(language)
    tied = words.pop("lm_head.weight")
    held |= {text + key: shape for key, shape in words.items()}
    return held | ({head: tied} if head else {})


@pytest.mark.parametrize(
    ("system", "billions"),
    [
        ("llava-med", 7.6),
        ("bimedix2", 8.4),
        ("medgemma", 4.3),
        ("lingshu", 8.3),
        ("med-r1", 2.2),
        ("fleming-vl", 7.9),
        ("hulu-med", 8.0),
    ],
)
def test_the_released_layout(system: str, billions: float) -> None:
    layout = Layout.load(system)
    with torch.device("meta"):
        assert published(system, layout.shapes) == layout.shapes
    assert "@" in layout.source
    total = sum(torch.Size(shape).numel() for shape in layout.shapes.values()) / 1e9
    assert total == pytest.approx(billions, abs=0.06)
