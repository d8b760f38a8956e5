"""Several versions of a model side by side: which one its id means, and how another one is had."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import ModelNotFound, VersionNotChosen
from models.registry import Registry
from tests.unit.models_registry.conftest import write_spots


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Versions 0.1 and 0.2 of one model."""
    write_spots(tmp_path / "site")
    write_spots(tmp_path / "more")
    (tmp_path / "more" / "spots").rename(tmp_path / "site" / "spots-0.2")
    card = tmp_path / "site" / "spots-0.2" / "model.toml"
    card.write_text(card.read_text().replace('version = "0.1"', 'version = "0.2"'))
    return Registry([tmp_path / "site"])


def test_an_id_means_nothing_until_one_version_is_approved(registry: Registry) -> None:
    with pytest.raises(VersionNotChosen, match=r"bright-spots@0.1, bright-spots@0.2, and none of them is approved"):
        registry.get("bright-spots")
    registry.serve({"bright-spots": "0" * 64})
    with pytest.raises(VersionNotChosen, match="the approved one is none of them"):
        registry.get("bright-spots")


def test_the_approved_version_stands_behind_the_id(registry: Registry) -> None:
    first, second = registry.versions("bright-spots")
    for model in (second, first, second):
        registry.serve({"bright-spots": model.digest})
        assert registry.get("bright-spots") is model
        assert [registry.stands(each) for each in (first, second)] == [model is first, model is second]


def test_any_version_is_had_by_name(registry: Registry) -> None:
    versions = {each.card.version: each for each in registry.versions("bright-spots")}
    assert list(versions) == ["0.1", "0.2"]
    for version, model in versions.items():
        assert registry.name(model) == f"bright-spots@{version}"
        assert registry.get(f"bright-spots@{version}") is model
        assert registry.with_digest("bright-spots", model.digest) is model
        assert registry.with_digest(f"bright-spots@{version}", model.digest) is model
    assert registry.with_digest("bright-spots@0.1", versions["0.2"].digest) is None
    with pytest.raises(ModelNotFound, match=r"there is bright-spots@0.1, bright-spots@0.2"):
        registry.get("bright-spots@0.3")
    assert [each.card.version for each in registry.list() if each.card.id == "bright-spots"] == ["0.1", "0.2"]


def test_one_version_needs_no_name(registry: Registry) -> None:
    baseline = registry.get("infarct-adc-baseline")
    assert registry.name(baseline) == "infarct-adc-baseline" and registry.stands(baseline)
    assert registry.get(f"infarct-adc-baseline@{baseline.card.version}") is baseline
    assert registry.versions("no-such-model") == ()


def test_the_same_version_twice_is_a_problem(tmp_path: Path) -> None:
    write_spots(tmp_path / "site")
    write_spots(tmp_path / "more")
    registry = Registry([tmp_path / "site", tmp_path / "more"])
    assert "a model named bright-spots@0.1 is installed already" in registry.problems["spots"].message
