"""The probability cut of a network that labels every voxel, moved: volumes known beforehand, the network asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import CardInvalid
from models.model import Model
from models.sweep import Sweep
from models.volume import Volume
from models.volume_range import range_ml
from tests.unit.models_dense.conftest import brightness_graph, write_model

STEP, VOXELS = 500.0, 16**3


def ramp() -> Volume:
    """Brightness that rises by 1/64 a voxel, through the network's step in the middle."""
    array = np.linspace(STEP - 32, STEP + 32, VOXELS, dtype=np.float32).reshape(16, 16, 16)
    return Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]))


def swept(folder: Path, *, strict: float, lax: float, name: str = "threshold", **options: Any) -> Model:
    """Two logits whose difference is the brightness less 500: the probability is its sigmoid."""
    folder.mkdir(exist_ok=True)
    brightness_graph(folder / "main.onnx", (STEP,))
    write_model(folder, labels=("Bright",), options=options)
    with (folder / "model.toml").open("a") as card:
        card.write(
            f'\n[sweep]\nreason = "test"\nsource = "test"\n[sweep.thresholds]\n{name} = {{ strict = {strict}, lax = {lax} }}\n'
        )
    return Model(folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"combine": "mean_probability"},
        {"activation": "sigmoid", "paint": [{"output": 1, "label": 1}]},
    ],
)
def test_the_range_is_that_of_the_probabilities(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = swept(tmp_path / "m", strict=0.9, lax=0.2, **options)
    asked: list[str] = []
    session = model.session
    monkeypatch.setattr(model, "session", lambda name: asked.append(name) or session(name))
    volume = ramp()
    result = model.run({"image": volume}, {})
    assert asked == ["main"]
    assert result.segmentation is not None and result.total_ml is not None
    difference = volume.array_zyx.astype(np.float64) - STEP
    expected = [np.count_nonzero(difference > np.log(cut / (1 - cut))) / 1000 for cut in (0.9, 0.5, 0.2)]
    limits = range_ml(result.totals)
    assert limits == pytest.approx((expected[0], expected[2]), abs=0.003)
    assert result.total_ml == pytest.approx(expected[1], abs=0.003)
    assert limits is not None and limits[0] < result.total_ml < limits[1]
    assert range_ml(result.segmentation.regions[0].quantities) == limits


def test_a_label_the_strict_cut_does_not_show_goes_down_to_nothing(tmp_path: Path) -> None:
    array = np.full((16, 16, 16), STEP - 50, np.float32)
    array[4:8, 4:8, 4:8] = STEP + 0.5  # a probability of 0.62
    result = swept(tmp_path / "m", strict=0.9, lax=0.2).run({"image": Volume(array, np.eye(4))}, {})
    assert range_ml(result.totals) == (0.0, pytest.approx(0.064))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strict": 0.4, "lax": 0.2}, "strict above and lax below 0.5"),
        ({"strict": 1.5, "lax": 0.2}, "between 0 and 1"),
        ({"strict": 0.7, "lax": 0.3, "name": "cut"}, "one threshold, named threshold"),
        ({"strict": 0.7, "lax": 0.3, "combine": "vote"}, "a vote has no probability"),
    ],
)
def test_cuts_that_are_none_are_refused(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(CardInvalid, match=words):
        _ = swept(tmp_path / "m", **given)._adapter


def test_a_sweep_says_why() -> None:
    with pytest.raises(ValueError, match="source"):
        Sweep.model_validate({"thresholds": {"threshold": {"strict": 0.7, "lax": 0.3}}, "reason": "because"})
