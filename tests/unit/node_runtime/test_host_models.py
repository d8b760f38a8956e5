"""Which folders a host is given: every version of what is named, what a chain is made of, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from node.jobs.host_models import HostModels
from tests.unit.models_registry.conftest import write_spots


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    made = tmp_path / "site"
    for folder, model, version in (("aa", "aa", "1"), ("aa-next", "aa", "2"), ("bb", "bb", "1"), ("cc", "cc", "1")):
        write_spots(tmp_path / folder)
        shutil.copytree(tmp_path / folder / "spots", made / folder)
        card = made / folder / "model.toml"
        words = card.read_text().replace("bright-spots", model).replace('version = "0.1"', f'version = "{version}"')
        card.write_text(words)
    return made


def chain(catalogue: Path, name: str, *members: str) -> None:
    """A chain that refines what one model finds by another."""
    card = (catalogue / "bb" / "model.toml").read_text().replace('id = "bb"', f'id = "{name}"')
    card = card.replace('family = "feed_forward"', 'family = "chain"')
    card = card[: card.index("[graphs.main]")] + card[card.index("[thresholds]") :]
    card += f'\n[options]\nrecipe = "refine"\nfinder = "{members[0]}"\nrefiner = "{members[1]}"\n'
    (catalogue / name).mkdir()
    (catalogue / name / "model.toml").write_text(card)


def test_all_versions_of_what_is_named_and_no_other_model(catalogue: Path) -> None:
    models = HostModels([catalogue])
    assert models.folders_of(["aa"]) == models.folders_of(["aa@1", "aa"]) == [catalogue / "aa", catalogue / "aa-next"]
    assert models.folders_of(["infarct-adc-baseline", "nobody"]) == models.folders_of([]) == []
    shutil.rmtree(catalogue / "aa-next")
    assert models.folders_of(["aa"]) == [catalogue / "aa"]


def test_what_a_chain_is_made_of_goes_along(catalogue: Path) -> None:
    chain(catalogue, "inner", "bb", "outer")
    chain(catalogue, "outer", "inner", "missing")
    names = [each.name for each in HostModels([catalogue]).folders_of(["outer"])]
    assert names == ["bb", "inner", "outer"]


def test_one_that_is_not_valid_goes_by_its_folder(catalogue: Path) -> None:
    (catalogue / "cc" / "model.toml").write_text("id = ")
    models = HostModels([catalogue])
    assert models.folders_of(["cc"]) == [catalogue / "cc"] and models.folders_of(["bb"]) == [catalogue / "bb"]
    chain(catalogue, "bad", "bb", "cc")
    card = catalogue / "bad" / "model.toml"
    card.write_text(card.read_text().replace("finder", "founder"))
    assert models.folders_of(["bad"]) == [catalogue / "bad"]
