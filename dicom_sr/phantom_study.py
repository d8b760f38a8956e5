"""A phantom as a DICOM study: valid objects of any plane, order, scaling and vendor, for tests, the demo and canaries.

Every UID, date and byte follows from the seed and the options: the same call writes the same files.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_sr.phantom_headers import (
    DEFAULT_PATIENT,
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    AdcScaling,
    PatientFacts,
    PhantomSeries,
    Vendor,
    classic_instance,
    enhanced_instance,
    seeded_uid,
)
from models.phantom import Phantom, plane_directions

__all__ = [
    "DEFAULT_PATIENT",
    "JAPANESE_PATIENT",
    "AdcScaling",
    "Content",
    "PatientFacts",
    "PhantomStudy",
    "Vendor",
    "phantom_datasets",
    "write_phantom_study",
]

JAPANESE_PATIENT = PatientFacts(
    name="Yamada^Tarou=山田^太郎=やまだ^たろう",
    patient_id="PH-000081",
    birth_date="19580321",
    character_set=("", "ISO 2022 IR 87"),
)

THREE_DIRECTIONS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Content(StrEnum):
    """What the diffusion part of the study holds."""

    TRACE = "trace"
    """A trace-weighted series."""
    DIRECTIONS = "directions"
    """One series with b = 0 and three directions, no trace."""


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """What was written.

    Attributes
    ----------
    study_uid, dwi_series_uid : str
    adc_series_uid, b0_series_uid : str or None
        None where the study has no such series.
    files : tuple of Path
        In the order in which they were written, which is the order of sending.
    truth_zyx : numpy.ndarray
        Lesion labels on the voxel grid that a correct loader gives: slices by increasing position along the normal,
        rows and columns as stored.
    affine : numpy.ndarray
        4×4, (column, row, slice) to mm in patient coordinates, of that grid.
    """

    study_uid: str
    dwi_series_uid: str
    adc_series_uid: str | None
    b0_series_uid: str | None
    files: tuple[Path, ...]
    truth_zyx: npt.NDArray[np.uint8]
    affine: npt.NDArray[np.float64]


def write_phantom_study(
    phantom: Phantom,
    folder: Path,
    *,
    seed: int,
    plane: str | None = None,
    flipped: bool = False,
    shuffled: bool = False,
    enhanced: bool = False,
    adc_scaling: str = AdcScaling.UM2_PER_S,
    vendor: str = Vendor.STANDARD,
    content: str = Content.TRACE,
    include_adc: bool = True,
    include_b0: bool = True,
    patient: PatientFacts = DEFAULT_PATIENT,
) -> PhantomStudy:
    """Write the phantom as a DICOM study below ``folder`` (made when absent).

    Parameters
    ----------
    seed : int
        Source of every UID and of the shuffling.
    plane : {"axial", "sagittal", "coronal", "oblique"}, optional
        Plane of the slices. Voxels are permuted without interpolation where planes are perpendicular to the phantom's
        own; else the head is turned with its grid. None keeps the phantom's own grid.
    flipped : bool
        Rows and columns run the other way (Image Orientation negated, pixels mirrored).
    shuffled : bool
        Instance Numbers, frame order and file order are random.
    enhanced : bool
        One Enhanced MR Image per series instead of one MR Image per slice.
    adc_scaling : str
        How the ADC map encodes its values: see :class:`AdcScaling`.
    vendor : str
        Where the b-value stands: see :class:`Vendor`.
    content : str
        See :class:`Content`.
    """
    series, grid = _plan(phantom, plane, flipped, AdcScaling(adc_scaling), Content(content), include_adc, include_b0)
    datasets = _build(series, seed, shuffled, enhanced, Vendor(vendor), patient)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, dataset in enumerate(datasets, start=1):
        path = folder / f"IM{number:05d}.dcm"
        _write(dataset, path)
        files.append(path)
    uids = {s.name: seeded_uid(seed, f"series/{s.name}") for s in series}
    return PhantomStudy(
        study_uid=seeded_uid(seed, "study"),
        dwi_series_uid=uids["dwi"],
        adc_series_uid=uids.get("adc"),
        b0_series_uid=uids.get("b0"),
        files=tuple(files),
        truth_zyx=grid.take(phantom.truth_zyx),
        affine=grid.affine,
    )


def phantom_datasets(
    phantom: Phantom,
    *,
    seed: int,
    plane: str | None = None,
    flipped: bool = False,
    enhanced: bool = False,
    adc_scaling: str = AdcScaling.UM2_PER_S,
    vendor: str = Vendor.STANDARD,
    content: str = Content.TRACE,
    include_adc: bool = True,
    include_b0: bool = True,
    patient: PatientFacts = DEFAULT_PATIENT,
) -> list[Dataset]:
    """The data sets that :func:`write_phantom_study` writes, in series and slice order, for tests to damage."""
    series, _ = _plan(phantom, plane, flipped, AdcScaling(adc_scaling), Content(content), include_adc, include_b0)
    return _build(series, seed, False, enhanced, Vendor(vendor), patient)


@dataclass(frozen=True, slots=True)
class _Grid:
    """How the phantom's voxels are laid out in the files: axes to permute, axes to mirror, and the affine."""

    permutation_zyx: tuple[int, ...]
    mirrored_zyx: tuple[bool, ...]
    affine: npt.NDArray[np.float64]

    def take(self, array_zyx: npt.NDArray) -> npt.NDArray:
        moved = array_zyx.transpose(self.permutation_zyx)
        return np.ascontiguousarray(moved[tuple(slice(None, None, -1 if m else 1) for m in self.mirrored_zyx)])


def _grid(phantom: Phantom, plane: str | None, flipped: bool) -> _Grid:
    affine = phantom.dwi.affine_lps
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    own = affine[:3, :3] / spacing
    as_is = own * np.array([-1, -1, 1]) if flipped else own
    target = as_is if plane is None else plane_directions(plane, flipped=flipped)
    signed = np.round(own.T @ target)
    if not np.allclose(own.T @ target, signed, atol=1e-6):
        # Not perpendicular: turn the grid about its centre, keep every voxel.
        signed = np.diag([-1.0, -1.0, 1.0]) if flipped else np.eye(3)
    source = np.abs(signed).argmax(axis=0)
    sign = signed.sum(axis=0)
    shape_xyz = np.array(phantom.dwi.array_zyx.shape[::-1])
    centre = affine @ np.append((shape_xyz - 1) / 2, 1.0)
    result = np.eye(4)
    result[:3, :3] = target * spacing[source]
    result[:3, 3] = centre[:3] - result[:3, :3] @ ((shape_xyz[source] - 1) / 2)
    return _Grid(tuple(2 - source[::-1]), tuple(sign[::-1] < 0), result + 0.0)


def _plan(
    phantom: Phantom,
    plane: str | None,
    flipped: bool,
    scaling: AdcScaling,
    content: Content,
    include_adc: bool,
    include_b0: bool,
) -> tuple[list[PhantomSeries], _Grid]:
    grid = _grid(phantom, plane, flipped)
    b_value = float(phantom.dwi.facts.get("b_value", 1000.0))
    b0, dwi, adc = (grid.take(v.array_zyx) for v in (phantom.b0, phantom.dwi, phantom.adc))
    if content is Content.TRACE:
        parts = [PhantomSeries("dwi", 3, "DWI trace", grid.affine, (dwi,), (b_value,), (None,))]
        if include_b0:
            parts.append(PhantomSeries("b0", 2, "DWI b0", grid.affine, (b0,), (0.0,), (None,)))
    else:
        # Equal diffusion along each direction: their geometric mean is the trace image again.
        parts = [
            PhantomSeries(
                "dwi",
                3,
                "DWI directions",
                grid.affine,
                (b0, dwi, dwi, dwi),
                (0.0, b_value, b_value, b_value),
                (None, *THREE_DIRECTIONS),
            )
        ]
    if include_adc:
        parts.append(PhantomSeries("adc", 4, "ADC", grid.affine, (adc,), (None,), (None,), adc_scaling=scaling))
    return parts, grid


def _build(
    series: Sequence[PhantomSeries],
    seed: int,
    shuffled: bool,
    enhanced: bool,
    vendor: Vendor,
    patient: PatientFacts,
) -> list[Dataset]:
    rng = random.Random(seed)
    datasets: list[Dataset] = []
    for part in series:
        count = len(part.volumes) * part.volumes[0].shape[0]
        order = list(range(count))
        if shuffled:
            rng.shuffle(order)
        if enhanced:
            datasets.append(enhanced_instance(part, seed, order, patient))
        else:
            datasets.extend(
                classic_instance(part, seed, index, number, vendor, patient)
                for number, index in enumerate(order, start=1)
            )
    if shuffled:
        rng.shuffle(datasets)
    return datasets


def _write(dataset: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    dataset.file_meta = meta
    dcmwrite(path, dataset, enforce_file_format=True)
