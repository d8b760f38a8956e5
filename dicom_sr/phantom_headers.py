"""Headers of the phantom study: MR Image (PS3.3 A.4) and Enhanced MR Image (PS3.3 A.36)."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_sr.phantom_groups import frame_groups, shared_groups

IMPLEMENTATION_UID = "2.25.222318425128394231837514326417530216431"
IMPLEMENTATION_VERSION = "AINODE_PHANTOM"
DATE, TIME = "20260115", "101500"
FIELD_STRENGTH_T = "3"


class AdcScaling(StrEnum):
    """How an ADC map encodes its values."""

    UM2_PER_S = "um2/s"
    """Stored values are 10⁻⁶ mm²/s, no rescale."""
    MM2_PER_S = "mm2/s"
    """Rescale Slope gives mm²/s (0.0008)."""
    MILLI = "1e-3"
    """Rescale Slope gives 10⁻³ mm²/s (0.8)."""
    NANO = "1e-9"
    """Rescale Slope gives 10⁻⁹ mm²/s (800000)."""
    PHILIPS = "philips"
    """Display values by Rescale Slope; the ADC in 10⁻³ mm²/s only after Philips' private Scale Slope (2005,100E)."""
    REAL_WORLD = "rwvm"
    """Real World Value Mapping with the unit mm2/s."""
    NONSENSE = "nonsense"
    """A scale that fits no physical range."""


class Vendor(StrEnum):
    """Where a classic image states its b-value."""

    STANDARD = "standard"
    """(0018,9087)."""
    SIEMENS = "siemens"
    """(0019,xx0C) SIEMENS MR HEADER."""
    GE = "ge"
    """(0043,xx39) GEMS_PARM_01, with 10⁹ added."""
    PHILIPS = "philips"
    """(2001,xx03) Philips Imaging DD 001."""


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """Patient module values. ``character_set`` as in (0008,0005); ``""`` first means the default repertoire."""

    name: str = "Phantom^Diffusion"
    patient_id: str = "PH-000001"
    issuer: str = ""
    birth_date: str = "19580321"
    sex: str = "M"
    age: str = "067Y"
    accession_number: str = "PHANTOM1"
    character_set: tuple[str, ...] = ("ISO_IR 192",)


DEFAULT_PATIENT = PatientFacts()


@dataclass(frozen=True, slots=True)
class PhantomSeries:
    """One series to write: volumes on one grid, with b-value (s/mm²) and gradient direction of each."""

    name: str
    number: int
    description: str
    affine: npt.NDArray[np.float64]
    volumes: tuple[npt.NDArray[np.float32], ...]
    b_values: tuple[float | None, ...]
    directions: tuple[tuple[float, float, float] | None, ...]
    adc_scaling: AdcScaling | None = None

    @property
    def slices(self) -> int:
        return int(self.volumes[0].shape[0])

    def place(self, index: int) -> tuple[int, int]:
        """Volume and slice of the ``index``-th image."""
        return divmod(index, self.slices)

    def position_mm(self, slice_index: int) -> list[str]:
        """Image Position (Patient) of a slice."""
        return [_ds(v) for v in self.affine[:3, 2] * slice_index + self.affine[:3, 3]]

    def orientation(self) -> list[str]:
        """Image Orientation (Patient)."""
        columns = self.affine[:3, :2] / np.linalg.norm(self.affine[:3, :2], axis=0)
        return [_ds(v) for v in columns.T.ravel()]

    def pixel_spacing_mm(self) -> list[str]:
        """Distance of rows, distance of columns."""
        return [_ds(float(np.linalg.norm(self.affine[:3, axis]))) for axis in (1, 0)]

    def slice_spacing_mm(self) -> float:
        return float(np.linalg.norm(self.affine[:3, 2]))

    def image_type(self, volume: int) -> list[str]:
        """Image Type (0008,0008) in the Enhanced MR manner, which vendors use in classic images as well."""
        if self.adc_scaling is not None:
            return ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]
        if self.directions[volume] is None and self.b_values[volume]:
            return ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW"]
        return ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]

    def stored(self, volume: int, slice_index: int) -> npt.NDArray[np.uint16]:
        """Stored pixel values of one slice."""
        values = np.round(self.volumes[volume][slice_index] / self.stored_step)
        return np.clip(values, 0, 65535).astype("<u2")

    @property
    def stored_step(self) -> float:
        """Value of one stored unit, before any rescale is written."""
        return 0.5 if self.adc_scaling is AdcScaling.PHILIPS else 1.0

    @property
    def rescale_slope(self) -> float | None:
        """Rescale Slope to write, None for none."""
        slopes = {
            AdcScaling.MM2_PER_S: 1e-6,
            AdcScaling.MILLI: 1e-3,
            AdcScaling.NANO: 1e3,
            AdcScaling.PHILIPS: 7.3,
            AdcScaling.NONSENSE: 37.0,
        }
        return slopes.get(self.adc_scaling) if self.adc_scaling else None

    @property
    def philips_scale_slope(self) -> float | None:
        """Scale Slope SS; real value = stored / SS."""
        return 2000.0 if self.adc_scaling is AdcScaling.PHILIPS else None


def seeded_uid(seed: int, name: str) -> str:
    """A UID below 2.25 (PS3.5 B.2) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"ainode phantom/{seed}/{name}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def classic_instance(
    series: PhantomSeries, seed: int, index: int, instance_number: int, vendor: Vendor, patient: PatientFacts
) -> Dataset:
    """One MR Image Storage data set, complete enough for ``dciodvfy``."""
    volume, slice_index = series.place(index)
    dataset = _common(series, seed, patient)
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = seeded_uid(seed, f"{series.name}/{index}")
    dataset.ImageType = series.image_type(volume)
    dataset.AcquisitionDate, dataset.AcquisitionTime = DATE, TIME
    dataset.AcquisitionNumber = volume + 1
    dataset.InstanceNumber = instance_number
    dataset.ImagePositionPatient = series.position_mm(slice_index)
    dataset.ImageOrientationPatient = series.orientation()
    dataset.SliceThickness = _ds(series.slice_spacing_mm())
    dataset.SpacingBetweenSlices = _ds(series.slice_spacing_mm())
    dataset.PixelSpacing = series.pixel_spacing_mm()
    _mr_image(dataset)
    _diffusion(dataset, series.b_values[volume], series.directions[volume], vendor)
    _pixels(dataset, series.stored(volume, slice_index)[None])
    dataset.WindowCenter, dataset.WindowWidth = window = _window(series, volume)
    if float(window[1]) < 1:
        dataset.VOILUTFunction = "LINEAR_EXACT"  # the only function that allows narrower windows (PS3.3 C.11.2.1.3)
    if series.rescale_slope is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", _ds(series.rescale_slope)
        dataset.RescaleType = "US"
    if series.philips_scale_slope is not None:
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", series.philips_scale_slope)
    if series.adc_scaling is AdcScaling.REAL_WORLD:
        dataset.RealWorldValueMappingSequence = DicomSequence([real_world_mapping(1e-6)])
    return dataset


def enhanced_instance(series: PhantomSeries, seed: int, order: Sequence[int], patient: PatientFacts) -> Dataset:
    """One Enhanced MR Image Storage data set; frame ``n`` is the ``order[n]``-th image of the series."""
    dataset = _common(series, seed, patient)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = seeded_uid(seed, f"{series.name}/enhanced")
    dataset.ImageType = series.image_type(len(series.volumes) - 1)
    dataset.InstanceNumber = 1
    dataset.AcquisitionDateTime = DATE + TIME
    dataset.AcquisitionDuration = 60000.0
    dataset.ContentQualification = "RESEARCH"
    dataset.ResonantNucleus = "1H"
    dataset.KSpaceFiltering = "NONE"
    dataset.MagneticFieldStrength = FIELD_STRENGTH_T
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.AcquisitionContrast = "DIFFUSION"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.ComplexImageComponent = "MAGNITUDE"
    if dataset.ImageType[0] == "ORIGINAL":
        _pulse_sequence(dataset)
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = DicomSequence([])
    _dimensions(dataset, seed, series)
    _pixels(dataset, np.stack([series.stored(*series.place(index)) for index in order]))
    dataset.NumberOfFrames = len(order)
    mapping = real_world_mapping(1e-6) if series.adc_scaling is AdcScaling.REAL_WORLD else None
    dataset.SharedFunctionalGroupsSequence = DicomSequence(
        [
            shared_groups(
                spacing_mm=series.pixel_spacing_mm(),
                thickness_mm=_ds(series.slice_spacing_mm()),
                orientation=series.orientation(),
                rescale_slope=_ds(series.rescale_slope or 1.0),
                real_world_mapping=mapping,
            )
        ]
    )
    frames = []
    for index in order:
        volume, slice_index = series.place(index)
        groups = frame_groups(
            position_mm=series.position_mm(slice_index),
            frame_type=series.image_type(volume),
            b_value=series.b_values[volume],
            direction=series.directions[volume],
            indices=[slice_index + 1, volume + 1] if series.adc_scaling is None else [slice_index + 1],
            window=_window(series, volume),
            date_time=DATE + TIME,
        )
        if series.philips_scale_slope is not None:
            block = groups.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            block.add_new(0x0E, "FL", series.philips_scale_slope)
        frames.append(groups)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    return dataset


def real_world_mapping(slope: float) -> Dataset:
    """Real World Value Mapping item (PS3.3 C.7.6.16.2.11) from stored value to mm²/s."""
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mm2/s", "UCUM", "mm2/s"
    item = Dataset()
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 65535
    item.RealWorldValueIntercept, item.RealWorldValueSlope = 0.0, slope
    item.LUTExplanation, item.LUTLabel = "ADC", "ADC"
    item.MeasurementUnitsCodeSequence = DicomSequence([unit])
    return item


def _common(series: PhantomSeries, seed: int, patient: PatientFacts) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = list(patient.character_set)
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = DATE, TIME
    for level in ("Study", "Series", "Content"):
        setattr(dataset, f"{level}Date", DATE)
        setattr(dataset, f"{level}Time", TIME)
    dataset.AccessionNumber = patient.accession_number
    dataset.Modality = "MR"
    dataset.Manufacturer = "ainode phantom"
    dataset.InstitutionName = "Phantom Hospital"
    dataset.ReferringPhysicianName = ""
    dataset.StationName = "PHANTOM"
    dataset.StudyDescription = "MR head, stroke protocol (phantom)"
    dataset.SeriesDescription = series.description
    dataset.ManufacturerModelName = "Diffusion phantom"
    dataset.PatientName = patient.name
    dataset.PatientID = patient.patient_id
    if patient.issuer:
        dataset.IssuerOfPatientID = patient.issuer
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = patient.birth_date, patient.sex, patient.age
    dataset.BodyPartExamined = "BRAIN"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.ProtocolName = "Stroke diffusion"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = seeded_uid(seed, "study")
    dataset.SeriesInstanceUID = seeded_uid(seed, f"series/{series.name}")
    dataset.StudyID = "1"
    dataset.SeriesNumber = series.number
    dataset.FrameOfReferenceUID = seeded_uid(seed, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    return dataset


def _mr_image(dataset: Dataset) -> None:
    dataset.ScanningSequence, dataset.SequenceVariant = "EP", "SK"
    dataset.ScanOptions = ""
    dataset.MRAcquisitionType = "2D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "6000", "80", 64
    dataset.MagneticFieldStrength = FIELD_STRENGTH_T


def _diffusion(
    dataset: Dataset, b_value: float | None, direction: tuple[float, float, float] | None, vendor: Vendor
) -> None:
    if b_value is None:
        return
    if vendor is Vendor.STANDARD:
        dataset.DiffusionBValue = b_value
        dataset.DiffusionDirectionality = "DIRECTIONAL" if direction else ("ISOTROPIC" if b_value else "NONE")
        if direction:
            dataset.DiffusionGradientOrientation = list(direction)
    elif vendor is Vendor.SIEMENS:
        dataset.Manufacturer = "SIEMENS"
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", str(int(b_value)))
        block.add_new(0x0D, "CS", "DIRECTIONAL" if direction else "NONE")
        if direction:
            block.add_new(0x0E, "FD", list(direction))
    elif vendor is Vendor.GE:
        dataset.Manufacturer = "GE MEDICAL SYSTEMS"
        block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x39, "IS", [str(int(b_value) + 1_000_000_000), "8", "0", "0"])
        if direction:
            gradients = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
            for element, value in zip((0xBB, 0xBC, 0xBD), direction, strict=True):
                gradients.add_new(element, "DS", _ds(value))
    else:
        dataset.Manufacturer = "Philips Medical Systems"
        block = dataset.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x03, "FL", b_value)
        block.add_new(0x04, "CS", "O" if direction else ("I" if b_value else "N"))
        if direction:
            gradients = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            for element, value in zip((0xB0, 0xB1, 0xB2), direction, strict=True):
                gradients.add_new(element, "FL", value)


def _pulse_sequence(dataset: Dataset) -> None:
    """MR Pulse Sequence module (PS3.3 C.8.13.4), required of ORIGINAL and MIXED images and of no others."""
    dataset.PulseSequenceName = "ep2d_diff"
    dataset.MRAcquisitionType = "2D"
    dataset.EchoPulseSequence = "SPIN"
    dataset.MultipleSpinEcho = "NO"
    dataset.MultiPlanarExcitation = "NO"
    dataset.SteadyStatePulseSequence = "NONE"
    dataset.EchoPlanarPulseSequence = "YES"
    dataset.SpectrallySelectedSuppression = "FAT"
    for keyword in ("PhaseContrast", "TimeOfFlightContrast", "SaturationRecovery"):
        setattr(dataset, keyword, "NO")
    dataset.OversamplingPhase = "NONE"
    dataset.GeometryOfKSpaceTraversal = "RECTILINEAR"
    dataset.SegmentedKSpaceTraversal = "SINGLE"
    dataset.RectilinearPhaseEncodeReordering = "LINEAR"
    dataset.NumberOfKSpaceTrajectories = 1


def _dimensions(dataset: Dataset, seed: int, series: PhantomSeries) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = seeded_uid(seed, f"dimensions/{series.name}")
    dataset.DimensionOrganizationSequence = DicomSequence([organization])
    items = []
    stack_position, b_value = (0x00209057, 0x00209111), (0x00189087, 0x00189117)
    for pointer, group in (stack_position, b_value) if series.adc_scaling is None else (stack_position,):
        item = Dataset()
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
        item.DimensionIndexPointer, item.FunctionalGroupPointer = pointer, group
        items.append(item)
    dataset.DimensionIndexSequence = DicomSequence(items)


def _pixels(dataset: Dataset, frames: npt.NDArray[np.uint16]) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = int(frames.shape[1]), int(frames.shape[2])
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.add_new(0x7FE00010, "OW", np.ascontiguousarray(frames).tobytes())


def _window(series: PhantomSeries, volume: int) -> tuple[str, str]:
    slope = (series.rescale_slope or 1.0) / series.stored_step
    top = float(np.percentile(series.volumes[volume], 99.5)) * slope
    return _ds(top / 2), _ds(max(top, 1e-6))


def _ds(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError("a decimal string is finite")
    return format_number_as_ds(float(value) + 0.0)
