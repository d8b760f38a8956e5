"""A FLAIR series of a stroke study, from its images to the report: used where there is one, said where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_sr.phantom_headers import seeded_uid
from dicom_sr.phantom_study import phantom_datasets, write_phantom_study
from models.phantom import LesionSpec, make_phantom
from node.cli import main

SEED = 12
RATIO = "118586006"


def _flair_series(datasets: list[Dataset], truth: np.ndarray, folder: Path, name: str) -> None:
    """The images at b = 0 as a FLAIR series, the infarct half as bright again."""
    b0 = [each for each in datasets if each.SeriesDescription == "DWI b0"]
    for number, dataset in enumerate(sorted(b0, key=lambda each: float(each.ImagePositionPatient[2])), start=1):
        for keyword in ("DiffusionBValue", "DiffusionDirectionality", "DiffusionGradientOrientation"):
            if keyword in dataset:
                del dataset[keyword]
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
        dataset.ScanningSequence, dataset.SequenceVariant = ["SE", "IR"], "SK"
        dataset.InversionTime = "2500"
        dataset.SeriesDescription, dataset.SeriesNumber = name, 9
        dataset.SeriesInstanceUID = seeded_uid(SEED, name)
        dataset.SOPInstanceUID = seeded_uid(SEED, f"{name}/{number}")
        stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
        brighter = np.where(truth[number - 1] > 0, 1.5, 1.0) * stored
        dataset.PixelData = np.clip(brighter, 0, 4095).astype(np.uint16).tobytes()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{name.replace(' ', '')}{number:03d}.dcm", enforce_file_format=True)


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (("T2 FLAIR",), "FLAIR signal ratio of the restricted diffusion to the mirrored tissue: 1."),
        ((), ""),
        (("T2 FLAIR", "FLAIR repeated"), ""),
    ],
    ids=["one", "none", "two"],
)
def test_flair_is_measured_or_said_to_be_missing(tmp_path: Path, series: tuple[str, ...], said: str) -> None:
    phantom = make_phantom(SEED, lesions=[LesionSpec(15.0, "left", s0_factor=1.0)])
    written = write_phantom_study(phantom, tmp_path / "study", seed=SEED)
    for scale, name in enumerate(series):
        for dataset in (made := phantom_datasets(phantom, seed=SEED)):
            dataset.file_meta = dcmread(written.files[0], stop_before_pixels=True).file_meta
        # Two that differ, so that neither passes for a copy of the other.
        _flair_series(made, written.truth_zyx if scale == 0 else 0 * written.truth_zyx, tmp_path / "study", name)
    assert main(["process", str(tmp_path / "study"), "--out", str(tmp_path / "out")]) == 0
    report = dcmread(tmp_path / "out" / "measurements.dcm")
    found = [each for each in _numbers(report) if each.ConceptNameCodeSequence[0].CodeValue == RATIO]
    ratios = [each for each in found if _measures(each, "FLAIR signal intensity")]
    # One more for each region: its diffusion-weighted signal relative to normal tissue.
    assert len(found) - len(ratios) == 1 and _measures(next(each for each in found if each not in ratios), "DWI signal")
    text = str(dcmread(tmp_path / "out" / "text-en.dcm").to_json())
    assert said in text if said else "FLAIR" not in text
    if len(series) != 1:
        assert ratios == []
        return
    (ratio,) = ratios
    assert float(ratio.MeasuredValueSequence[0].NumericValue) == pytest.approx(1.5, rel=0.12)
    assert ratio.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "1"


def _measures(number: Dataset, what: str) -> bool:
    return any(str(each.get("TextValue", "")).startswith(f"measures={what}") for each in number.ContentSequence)


def _numbers(item: Dataset) -> list[Dataset]:
    below = [found for each in item.get("ContentSequence", []) for found in _numbers(each)]
    return [*([item] if item.get("ValueType") == "NUM" else []), *below]
