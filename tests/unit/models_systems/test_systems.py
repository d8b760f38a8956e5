"""The catalogue's descriptions are what they say: converters exist, proofs exist, the page is made from them."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.card import EMBEDDED
from models.chains.recipe import recipe_of
from models.errors import ModelNotFound
from models.export.card_text import toml_text
from models.export.checkpoint import KEYS_FOLDER, Layout
from models.export.systems import SYSTEMS, System, converter_of, described
from models.export.table import renewed, rows
from node.cli import main

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_holds_the_table_the_descriptions_make() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert renewed(page) == page, "run `make docs`"


def test_the_first_page_counts_as_the_table_does() -> None:
    convertible = {
        name for name, each in described().items() if each.status in ("needs weights", "needs site training")
    }
    converted = convertible - {"onnx-folder"}  # whichever system it is
    assert f"[{len(converted)} published systems]" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(name for name, each in described().items() if each.recipe))
def test_recipes_and_their_proofs_exist(name: str) -> None:
    assert recipe_of(described()[name].recipe)
    file, _, test = described()[name].proof.partition("::")
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_converters_exist(name: str) -> None:
    assert importlib.util.find_spec(SYSTEMS[name]) is not None


@pytest.mark.parametrize("name", sorted(name for name, each in described().items() if each.proof))
def test_proofs_exist(name: str) -> None:
    """A file of tests, a folder with some, or one test of a file."""
    path, _, test = described()[name].proof.partition("::")
    place = ROOT / path
    files = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
    assert files
    assert all(re.search(rf"^def {test or 'test_'}", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files)


OF_ANOTHER = {
    "deepisles-seals": "nnunet-v1",
    "merlin-phenotypes": "merlin",
    "mulmodseg-mr": "mulmodseg",
    "totalsegmentator": "nnunet",
}
"""Systems whose checkpoints have the layout of another one."""


WITHOUT_LAYOUT = {"onnx-folder", "deepisles-nvauto"}
"""Systems whose files hold the network itself."""


@pytest.mark.parametrize("name", sorted(set(SYSTEMS) - WITHOUT_LAYOUT))
def test_the_numbers_of_keys_are_those_of_the_layouts(name: str) -> None:
    owner = OF_ANOTHER.get(name, name)
    longer = [each for each in SYSTEMS if each.startswith(f"{owner}-")]
    layouts = [
        Layout.load(each.stem)
        for each in sorted(KEYS_FOLDER.glob("*.json"))
        if each.stem == owner
        or (each.stem.startswith(f"{owner}-") and not any(each.stem.startswith(other) for other in longer))
    ]
    assert layouts
    stated = [int(number) for number in re.findall(r"\d+", described()[name].keys)]
    counted = [len(layout.shapes) for layout in layouts]
    assert set(stated) & set(counted) or sum(stated) in counted, (stated, counted)
    for layout in layouts:
        assert re.search(r"\S+/\S+@\S+:\S+", layout.source), layout.source


def test_what_runs_is_what_comes_with_the_product() -> None:
    shipped = {card.parent.name for card in EMBEDDED.glob("*/model.toml")}
    runs = {name for name, system in described().items() if system.status == "runs"}
    bound = {name for name in shipped if described()[name].status == "remote"}
    assert shipped == runs | bound
    assert all(described()[name].proof for name in shipped)


def test_a_system_without_converter_is_told_apart() -> None:
    with pytest.raises(ModelNotFound, match="medsam"):
        converter_of("med-palm")
    with pytest.raises(ModelNotFound, match="no converter"):
        converter_of("no-such-system")


def test_a_description_cannot_claim_what_it_does_not_prove() -> None:
    facts = {"title": "x", "task": "x", "licence_code": "MIT", "licence_weights": "MIT"}
    with pytest.raises(ValidationError, match="keys, parity, proof"):
        System.model_validate({**facts, "status": "needs weights", "module": "models.export.medsam"})
    with pytest.raises(ValidationError, match="only a system with a converter"):
        System.model_validate({**facts, "status": "needs weights"})


def test_the_list_has_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    assert main(["--config", str(config), "models", "list", "--json"]) == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == {row["system"] for row in rows()}
    # What a model that is installed has of its own stands for what the table has.
    own = {"status", "family", "licence_code", "licence_weights"}
    for row in rows():
        given = listed[row["system"]]
        assert {key: given[key] for key in row.keys() - own} == {key: row[key] for key in row.keys() - own}
        assert given["installed"] or all(given[key] == row[key] for key in own)
    assert listed["infarct-adc-baseline"]["installed"]
    assert listed["medsam"]["command"].startswith("ainode models import medsam")
    assert main(["--config", str(config), "models", "list"]) == 0
    assert "med-palm" not in capsys.readouterr().out
    assert main(["--config", str(config), "models", "list", "--all"]) == 0
    assert "med-palm" in capsys.readouterr().out


def test_card_text_is_toml_that_reads_back() -> None:
    content = {
        "plain": 1,
        "real": 2.0,
        "small": 1e-7,
        "yes": True,
        "text": 'a "quoted" ä\n',
        "list": [1.5, 2],
        "empty": {},
        "with space": {"deep.key": {"x": [{"a": 1}, {"a": 2, "b": {"c": "d"}}]}},
        "terms": [{"concept": {"value": "1", "meaning": "m"}, "n": 0}],
    }
    assert tomllib.loads(toml_text({**content, "left_out": None})) == content
