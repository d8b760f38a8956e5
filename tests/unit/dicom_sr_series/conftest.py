"""A small phantom study to damage, and the inputs of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_sr.phantom_study import phantom_datasets
from dicom_sr.series import LoadedStudy, load_study
from models.card import CardInput
from models.phantom import Phantom, make_phantom

INPUTS = (
    CardInput(role="dwi", kind="dwi", modality="MR", minimum_b_value=800.0, maximum_b_value=3000.0),
    CardInput(role="adc", kind="adc", modality="MR", same_grid_as="dwi"),
)

SLICES, SPACING_MM = 10, 11.0

Build = Callable[..., list[Dataset]]
Load = Callable[[Sequence[Dataset]], LoadedStudy]


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """Few slices, because tests write it often."""
    return make_phantom(1, shape_zyx=(SLICES, 72, 64), spacing_mm_zyx=(SPACING_MM, 3.0, 3.1))


@pytest.fixture
def build(phantom: Phantom) -> Build:
    """Fresh data sets of the phantom study; ``series`` picks one series' data sets."""

    def datasets(**options: Any) -> list[Dataset]:
        return phantom_datasets(phantom, seed=options.pop("seed", 7), **options)

    return datasets


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write data sets as files and load them."""

    def written(datasets: Sequence[Dataset]) -> LoadedStudy:
        folder = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, dataset in enumerate(datasets):
            save(dataset, folder / f"{number:04d}.dcm")
        return load_study([folder, *tmp_path.glob("*.*")])

    return written


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a PS3.10 file, however incomplete the data set."""
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def of(datasets: Sequence[Dataset], number: int) -> list[Dataset]:
    """Data sets of the series with a Series Number: 2 is b = 0, 3 diffusion, 4 ADC."""
    return [d for d in datasets if d.SeriesNumber == number]
