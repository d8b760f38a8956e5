"""Whether a series was made with contrast agent: what headers say, and what a card's limit makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.contrast import contrast_of
from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.series import Kind, load_study
from models.errors import OutsideLimits
from models.limits import Limits, require_within
from models.phantom import make_phantom
from models.volume import Volume


def _header(agent: str | None = None, *, coded: bool = False) -> Dataset:
    header = Dataset()
    if agent is not None:
        header.ContrastBolusAgent = agent
    if coded:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-B0317", "SRT", "Gadodiamide"
        header.ContrastBolusAgentSequence = [code]
    return header


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (_header("GADOVIST"), "with"),
        (_header("Iohexol 350"), "with"),
        (_header(coded=True), "with"),
        (_header("Normal saline"), "with"),  # a bolus is a bolus; whoever reads the name knows better
        (_header("NONE"), "without"),
        (_header(" No Contrast "), "without"),
        (_header("W/O"), "without"),
        (_header("non-contrast"), "without"),
        (_header("NONE", coded=True), None),
        (_header(""), None),
        (_header(), None),
    ],
)
def test_what_a_header_says(header: Dataset, expected: str | None) -> None:
    assert contrast_of(header) == expected


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_study_with_contrast_is_refused_by_a_card_for_series_without(tmp_path: Path, enhanced: bool) -> None:
    phantom = make_phantom(3, shape_zyx=(8, 48, 48), spacing_mm_zyx=(16.0, 4.8, 4.8))
    study = write_phantom_study(phantom, tmp_path / "study", seed=3, enhanced=enhanced)
    limits = Limits(contrast={"dwi": "without", "flair": "without"})

    def volume() -> Volume:
        loaded = load_study(study.files)
        return next(each.volume for each in loaded.volumes if each.kind is Kind.DWI_TRACE)

    assert require_within(limits, {"dwi": volume()}) == ("contrast",)
    for path in study.files:
        dataset = dcmread(path)
        if enhanced:
            dataset.ContrastBolusAgentSequence = _header(coded=True).ContrastBolusAgentSequence
        else:
            dataset.ContrastBolusAgent = "GADOVIST"
        dataset.save_as(path)
    given = volume()
    with pytest.raises(
        OutsideLimits, match=r"\(dwi\) was made with contrast agent, and the model was made for series without"
    ):
        require_within(limits, {"dwi": given})
    assert require_within(Limits(contrast={"dwi": "with"}), {"dwi": given}) == ()
