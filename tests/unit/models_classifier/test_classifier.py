"""Findings with probabilities: the right output for the right concept, decided at its own operating point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import CardInvalid, InferenceFailed
from models.model import Model
from models.results import Outcome
from models.volume import Volume
from tests.unit.models_classifier.conftest import write_model

MAXIMUM = 4095


def radiograph(left: float, right: float, shape: tuple[int, int] = (60, 40)) -> Volume:
    """A radiograph whose halves have these values, 0 … 1 of the possible range."""
    image = np.zeros((1, *shape), np.float32)
    image[0, :, : shape[1] // 2] = left * MAXIMUM
    image[0, :, shape[1] // 2 :] = right * MAXIMUM
    return Volume(image, np.eye(4), facts={"maximum_value": MAXIMUM})


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_each_output_is_its_own_finding(known: Model) -> None:
    result = known.run({"image": radiograph(0.7, 0.3)}, {})
    pneumothorax, effusion = result.findings
    assert (pneumothorax.concept.meaning, effusion.concept.meaning) == ("Pneumothorax", "Pleural effusion")
    assert effusion.probability == pytest.approx(sigmoid(8 * 0.4), abs=0.02)
    assert pneumothorax.probability == pytest.approx(sigmoid(-8 * 0.4), abs=0.02)
    assert (effusion.present, pneumothorax.present) == (True, False)
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is None


def test_the_operating_point_decides(known: Model) -> None:
    # 0.83 is above a half and below the 0.9 that pneumothorax needs.
    result = known.run({"image": radiograph(0.2, 0.6)}, {})
    assert result.findings[0].probability == pytest.approx(sigmoid(8 * 0.2), abs=0.02)
    assert not result.findings[0].present
    assert result.outcome is Outcome.NOTHING_FOUND


def test_calibration_puts_the_operating_point_at_half(tmp_path: Path) -> None:
    options, image = 'calibration = "operating_point_at_half"', radiograph(0.2, 0.6)
    raw = Model(write_model(tmp_path / "raw")).run({"image": image}, {}).findings[0]
    below = Model(write_model(tmp_path / "below", options=options)).run({"image": image}, {}).findings[0]
    above = Model(write_model(tmp_path / "above", options=options, point=0.2)).run({"image": image}, {}).findings[0]
    assert below.probability == pytest.approx(raw.probability / 1.8)
    assert above.probability == pytest.approx(1 - (1 - raw.probability) / 1.6)
    assert (below.operating_point, below.present, above.present) == (0.5, False, True)


def test_the_middle_square_is_taken(known: Model) -> None:
    tall, square = radiograph(0.7, 0.3, (80, 40)), radiograph(0.7, 0.3, (40, 40))
    tall.array_zyx[0, :20] = tall.array_zyx[0, 60:] = MAXIMUM
    values = [known.run({"image": image}, {}).findings[1].probability for image in (tall, square)]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_what_is_no_radiograph_is_refused(known: Model) -> None:
    image = radiograph(0.5, 0.5)
    with pytest.raises(InferenceFailed, match="one image"):
        known.run({"image": Volume(np.zeros((2, 8, 8), np.float32), np.eye(4), facts=image.facts)}, {})
    with pytest.raises(InferenceFailed, match="range"):
        known.run({"image": Volume(image.array_zyx, np.eye(4))}, {})
    with pytest.raises(InferenceFailed, match="missing"):
        known.run({}, {})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("output = 0\n", "output = 1\n", "same output"),
        ('resize = "bilinear_antialias"', 'resize = "magic"', "no resizer"),
        ('kind = "projection"', 'kind = "image"', "takes one projection"),
        ("operating_point = 0.5", "operating_point = nan", "operating_point"),
    ],
)
def test_cards_that_make_no_sense_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    card = write_model(tmp_path / "wrong") / "model.toml"
    card.write_text(card.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(CardInvalid, match=words):
        Model(card.parent).run({"image": radiograph(0.5, 0.5)}, {})


def test_a_card_that_reads_beyond_the_outputs_is_refused(tmp_path: Path) -> None:
    card = write_model(tmp_path / "wrong") / "model.toml"
    card.write_text(card.read_text(encoding="utf-8").replace("output = 0\n", "output = 7\n"), encoding="utf-8")
    with pytest.raises(InferenceFailed, match="8 values"):
        Model(card.parent).run({"image": radiograph(0.5, 0.5)}, {})
