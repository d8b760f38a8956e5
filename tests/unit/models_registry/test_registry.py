"""Cards, digests, sessions and the feed_forward adapter on a model that is only a card and a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.card import Card, file_digest
from models.errors import (
    CardInvalid,
    DigestMismatch,
    GraphMismatch,
    InferenceFailed,
    ModelNotFound,
    OutputNotFinite,
    ParameterInvalid,
)
from models.registry import Registry
from models.results import Laterality, Outcome
from models.session import CPU, Session, gpu_count, preferred_providers
from models.volume import Volume
from tests.unit.models_registry.conftest import write_graph


def image(spots: int = 0) -> Volume:
    """A noise-free image with ``spots`` bright bars of growing length."""
    array = np.zeros((12, 16, 16), dtype=np.float32)
    for n in range(spots):
        array[2 * (n % 6), 2 * (n // 6), 1 : 2 + n] = 100.0
    return Volume(array, np.diag([1.0, 1.0, 1.0, 1.0]))


def edit(catalogue: Path, old: str, new: str) -> None:
    path = catalogue / "spots" / "model.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_second_model_of_the_family_is_a_card_and_a_graph(spots: Path) -> None:
    result = Registry([spots]).get("bright-spots").run({"image": image(2)}, {})
    assert result.outcome is Outcome.FOUND
    assert result.segmentation is not None
    assert [r.number for r in result.segmentation.regions] == [1, 2]
    assert [round(r.volume_ml, 4) for r in result.segmentation.regions] == [0.002, 0.001]
    assert result.segmentation.regions[0].laterality is Laterality.UNKNOWN
    assert result.segmentation.regions[0].key_slice == 2
    assert result.total_ml == pytest.approx(0.003)
    assert result.model.provider in preferred_providers()


def test_embedded_models_come_first_and_cannot_be_replaced(spots: Path) -> None:
    edit(spots, 'id = "bright-spots"', 'id = "infarct-adc-baseline"')
    registry = Registry([spots])
    assert registry.get("infarct-adc-baseline").card.family == "feed_forward"
    assert registry.get("infarct-adc-baseline").card.manufacturer != "Test"
    assert "installed already" in registry.problems["spots"].message


def test_one_bad_card_does_not_hide_the_others(spots: Path) -> None:
    edit(spots, 'version = "0.1"', 'version = "0.1"\nversoin = "typo"')
    registry = Registry([spots])
    assert "infarct-adc-baseline" in [each.card.id for each in registry.list()]
    with pytest.raises(CardInvalid, match="versoin"):
        registry.get("spots")


def test_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFound, match="no-such-model"):
        Registry().get("no-such-model")


def test_changed_graph_is_refused(spots: Path) -> None:
    with (spots / "spots" / "main.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(DigestMismatch, match=r"main\.onnx"):
        Registry([spots]).get("bright-spots").run({"image": image()}, {})


def test_a_graph_that_is_loaded_again_is_looked_at_again(spots: Path) -> None:
    model = Registry([spots]).get("bright-spots")
    model.warm()
    write_graph(spots / "spots" / "main.onnx", constant=3.0)
    model.unload()  # as when another model needed the memory
    with pytest.raises(DigestMismatch):
        model.session("main")


def test_digest_covers_card_and_graph(spots: Path) -> None:
    before = Registry([spots]).get("bright-spots").digest
    assert before == Registry([spots]).get("bright-spots").digest
    edit(spots, "limit_ml = 0.0", "limit_ml = 0.1")
    assert Registry([spots]).get("bright-spots").digest != before


def test_graph_that_differs_from_its_card_is_refused(spots: Path) -> None:
    edit(spots, 'outputs = ["score"]', 'outputs = ["scores"]')
    with pytest.raises(GraphMismatch, match="scores"):
        Registry([spots]).get("bright-spots").warm()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('step = "standardise"', 'step = "standardize"', "standardize"),
        ("nonzero = false", "nonzeros = false", "nonzeros"),
    ],
)
def test_wrong_step_is_refused_before_anything_runs(spots: Path, old: str, new: str, said: str) -> None:
    edit(spots, old, new)
    with pytest.raises(CardInvalid, match=said):
        Registry([spots]).get("bright-spots").warm()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('file = "main.onnx"', 'file = "../main.onnx"', "own folder"),
        ('adjustable = ["limit_ml"]', 'adjustable = ["nothing"]', "nothing"),
        ('family = "feed_forward"', 'family = "fast_forward"', "family"),
        ("value = 1\n", "value = 2\n", "labels"),
        ('role = "image"', 'role = "image"\nsame_grid_as = "other"', "other"),
    ],
)
def test_inconsistent_card_names_the_key(spots: Path, old: str, new: str, said: str) -> None:
    edit(spots, old, new)
    with pytest.raises(CardInvalid, match=said):
        Card.load(spots / "spots")


def test_parameters_are_checked_and_kept(spots: Path) -> None:
    model = Registry([spots]).get("bright-spots")
    result = model.run({"image": image(2)}, {"limit_ml": "0.0015"})
    assert result.segmentation is not None
    assert len(result.segmentation.regions) == 1
    assert result.model.parameters == {"limit_ml": "0.0015"}
    for bad in ({"limit": "1"}, {"limit_ml": "much"}, {"limit_ml": "nan"}):
        with pytest.raises(ParameterInvalid):
            model.run({"image": image(2)}, bad)


def test_more_regions_than_numbers_are_merged_into_one(spots: Path) -> None:
    result = Registry([spots]).get("bright-spots").run({"image": image(6)}, {})
    assert result.segmentation is not None
    regions = result.segmentation.regions
    assert len(regions) == 3
    assert sorted((round(r.volume_ml * 1000) for r in regions), reverse=True) == [10, 6, 5]
    assert [r.volume_ml for r in regions] == sorted((r.volume_ml for r in regions), reverse=True)
    assert result.total_ml == pytest.approx(0.021)
    assert result.evidence["regions_merged"] == 4


def test_holes_in_the_input_are_refused(spots: Path) -> None:
    volume = image(1)
    volume.array_zyx[0, 0, 0] = np.nan
    with pytest.raises(InferenceFailed, match="NaN"):
        Registry([spots]).get("bright-spots").run({"image": volume}, {})
    with pytest.raises(InferenceFailed, match="missing"):
        Registry([spots]).get("bright-spots").run({}, {})


def test_infinite_output_is_refused(tmp_path: Path) -> None:
    write_graph(tmp_path / "g.onnx", operator="Div", constant=0.0)
    session = Session(tmp_path / "g.onnx", providers=[CPU])
    feeds = {"normal": np.ones((1, 2, 2), dtype=np.float32)}
    with pytest.raises(OutputNotFinite, match="score"):
        session.run(feeds)
    assert np.isinf(session.run(feeds, finite=False)["score"]).all()


def test_session_reports_what_really_runs(tmp_path: Path) -> None:
    write_graph(tmp_path / "g.onnx")
    session = Session(tmp_path / "g.onnx")
    assert session.provider == preferred_providers()[0]
    assert (session.provider == CPU) == (gpu_count() == 0 or preferred_providers() == (CPU,))
    with pytest.raises(InferenceFailed):
        session.run({"normal": np.ones((2, 2), dtype=np.float32)})


def test_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"not a graph")
    with pytest.raises(GraphMismatch):
        Session(tmp_path / "g.onnx")


def test_every_installed_card_pins_what_lies_there() -> None:
    registry = Registry()
    assert not registry.problems
    for model in registry.list():
        assert registry.get(model.card.id) is model
        model.verify()
        assert len(model.digest) == 64


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")
