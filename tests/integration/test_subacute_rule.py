"""A rule that asks for the subacute mode: what comes out says so in SR, SEG and text, and is other work than without."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.cli import main

_PROFILE = '[profile.default]\nlanguages = ["en", "ja"]\ntext_documents = "shown_as_draft"\nmaximum_series = 100\n\n'
_RULE = '[[rule]]\nname = "infarct"\nmodel = "infarct-adc-baseline"\n'
_AREA = "DWI-bright area, ADC not low 2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Objects of one study by the rule with and without the mode."""
    folder = tmp_path_factory.mktemp("subacute")
    older = LesionSpec(8.0, "right", adc_um2_s=820.0, s0_factor=1.9)
    phantom = make_phantom(3, t2_shine_through=False, lesions=[LesionSpec(15.0, "left"), older])
    write_phantom_study(phantom, folder / "study", seed=3)
    for name, parameters in (("usual", ""), ("mode", 'parameters = { subacute = "1" }\n')):
        config = folder / f"{name}.toml"
        text = f"{_PROFILE}{_RULE}{parameters}"
        config.write_text(text, encoding="utf-8")
        words = ["--config", str(config), "process", str(folder / "study"), "--out", str(folder / name)]
        assert main(words) == 0
    return {name: folder / name for name in ("usual", "mode")}


def _texts(item: Dataset) -> list[str]:
    below = [found for each in item.get("ContentSequence", []) for found in _texts(each)]
    return [*([str(item.TextValue)] if "TextValue" in item else []), *below]


def test_the_segmentation_calls_it_no_infarct(made: dict[str, Path]) -> None:
    core, area = dcmread(made["mode"] / "seg.dcm").SegmentSequence
    assert area.SegmentLabel == _AREA
    kinds = [each.SegmentedPropertyTypeCodeSequence[0].CodeValue for each in (core, area)]
    assert kinds == ["55641003", "52988006"]
    assert len(dcmread(made["usual"] / "seg.dcm").SegmentSequence) == 1


def test_the_reports_say_that_it_was_the_mode_and_what_it_means(made: dict[str, Path]) -> None:
    usual, mode = (_texts(dcmread(made[name] / "measurements.dcm")) for name in ("usual", "mode"))
    assert "subacute=1" in mode and not [each for each in usual if each.startswith("subacute")]
    for language, head, means in (
        ("en", "Subacute mode:", "T2 shine-through"),
        ("ja", "亜急性期モード：", "T2シャインスルー"),
    ):
        told = "\n".join(_texts(dcmread(made["mode"] / f"text-{language}.dcm")))
        assert told.count(head) >= 3 and means in told
        assert head not in "\n".join(_texts(dcmread(made["usual"] / f"text-{language}.dcm")))


def test_it_is_other_work(made: dict[str, Path]) -> None:
    one, other = (dcmread(made[name] / "seg.dcm").SOPInstanceUID for name in ("usual", "mode"))
    assert one != other
