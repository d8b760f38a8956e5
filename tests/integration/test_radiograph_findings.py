"""A radiograph in, findings out, as the engineer tries it: `ainode process` with a classifier of the site's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.cli import main
from tests.generators.radiographs import write_radiograph
from tests.unit.models_classifier.conftest import write_model

FINDING, PROBABILITY, PRESENCE, PRESENT = "121071", "122157", "121052", "52101004"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_model(tmp_path / "site" / "known")
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ndata_dir = "{tmp_path / "data"}"\n[models]\nfolders = ["{tmp_path / "site"}"]\n'
        '[profile.default]\nobjects = ["seg", "measurements", "text", "key_objects"]\nlanguages = ["en", "ja"]\n'
        'text_documents = "shown_as_draft"\nmaximum_series = 4\n'
    )
    return path


def processed(config: Path, image: Path, out: Path) -> dict[str, Dataset]:
    arguments = ["--config", str(config), "process", str(image), "--out", str(out)]
    code = main([*arguments, "--model", "known-findings", "--profile", "default"])
    objects = {path.stem: dcmread(path) for path in out.glob("*.dcm")}
    assert code == (1 if any(name.startswith("status") for name in objects) else 0)
    return objects


def children(entry: Dataset) -> dict[str, Dataset]:
    named = (item for item in entry.ContentSequence if "ConceptNameCodeSequence" in item)
    return {item.ConceptNameCodeSequence[0].CodeValue: item for item in named}


def items(entry: Dataset) -> Iterator[Dataset]:
    for item in entry.get("ContentSequence", []):
        yield item
        yield from items(item)


def text_of(document: Dataset) -> str:
    return "\n".join(str(item.TextValue) for item in items(document) if "TextValue" in item)


def groups(report: Dataset) -> list[dict[str, Dataset]]:
    return [children(group) for group in children(report)["126010"].ContentSequence]


def half_bright(side: str) -> np.ndarray:
    values = np.full((64, 64), 300, np.uint16)
    values[:, slice(0, 32) if side == "left" else slice(32, 64)] = 3900
    return values


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_findings_reach_report_and_text(tmp_path: Path, config: Path, photometric: str) -> None:
    values = half_bright("left") if photometric == "MONOCHROME2" else 4095 - half_bright("left")
    image = write_radiograph(tmp_path / "in" / "a.dcm", values, photometric=photometric)
    objects = processed(config, image, tmp_path / "out")
    assert set(objects) == {"measurements-findings", "text-en", "text-ja"}
    stated = {
        group[FINDING].ConceptCodeSequence[0].CodeMeaning: (
            float(group[PROBABILITY].MeasuredValueSequence[0].NumericValue),
            group[PRESENCE].ConceptCodeSequence[0].CodeValue == PRESENT,
        )
        for group in groups(objects["measurements-findings"])
    }
    assert stated["Pleural effusion"][0] > 0.95
    assert stated["Pneumothorax"][0] < 0.05
    assert {name: present for name, (_, present) in stated.items()} == {"Pleural effusion": True, "Pneumothorax": False}
    english, japanese = (text_of(objects[name]) for name in ("text-en", "text-ja"))
    assert "AI flags: Pleural effusion." in english
    assert "AIの指摘：胸水。" in japanese
    for words in ("infarct", "diffusion", "梗塞"):
        assert words not in english + japanese


def test_nothing_flagged_says_what_it_does_not_mean(tmp_path: Path, config: Path) -> None:
    image = write_radiograph(tmp_path / "in" / "a.dcm", np.zeros((64, 64), np.uint16))
    objects = processed(config, image, tmp_path / "out")
    assert set(objects) == {"measurements-findings", "text-en", "text-ja"}
    assert "This does not exclude disease." in text_of(objects["text-en"])


def test_a_lateral_alone_is_answered_with_the_reason(tmp_path: Path, config: Path) -> None:
    card = tmp_path / "site" / "known" / "model.toml"
    card.write_text(card.read_text().replace('modality = "CR|DX"', 'modality = "CR|DX"\nviews = ["PA", "AP"]'))
    image = write_radiograph(tmp_path / "in" / "a.dcm", half_bright("left"), view="LL")
    objects = processed(config, image, tmp_path / "out")
    assert objects
    assert all(name.startswith("status") for name in objects)
    assert "SER-011" in text_of(objects["status"])


def test_terms_of_the_models_own_are_identified(tmp_path: Path, config: Path) -> None:
    card = tmp_path / "site" / "known" / "model.toml"
    card.write_text(card.read_text().replace('value = "36118008", scheme = "SCT"', 'value = "PTX", scheme = "99TEST"'))
    image = write_radiograph(tmp_path / "in" / "a.dcm", half_bright("left"))
    report = processed(config, image, tmp_path / "out")["measurements-findings"]
    identified = report.CodingSchemeIdentificationSequence[0]
    assert (identified.CodingSchemeDesignator, identified.CodingSchemeResponsibleOrganization) == ("99TEST", "Test")
