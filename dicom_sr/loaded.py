"""Records of a loaded study."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pydicom.dataset import Dataset

from dicom_sr.errors import SeriesRejected
from dicom_sr.frames import SourceFrame
from models.volume import Volume


class Kind(StrEnum):
    """What a volume shows, by content."""

    DWI_TRACE = "dwi_trace"
    DWI_DIRECTION = "dwi_direction"
    B0 = "b0"
    ADC = "adc"
    PROJECTION = "projection"
    PHOTOGRAPH = "photograph"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class SeriesVolume:
    """One volume and where each of its slices came from.

    Attributes
    ----------
    volume : Volume
        Rescaled values; ADC in ``um2/s``. ``volume.facts["derived"]`` says so where this package computed it.
    series_uid : str
    frames : tuple of SourceFrame
        One per slice, array order.
    header : pydicom.Dataset
        Header of the first slice's instance, without pixel data. Shared: copy before changing.
    kind : Kind
    b_value : float or None
        s/mm².
    direction : tuple of float or None
        Diffusion gradient direction of a :attr:`Kind.DWI_DIRECTION` volume, as the vendor states it.
    """

    volume: Volume
    series_uid: str
    frames: tuple[SourceFrame, ...]
    header: Dataset
    kind: Kind
    b_value: float | None = None
    direction: tuple[float, float, float] | None = None

    @property
    def has_place(self) -> bool:
        """Whether its slices lie somewhere in the patient: a projection and a photograph do not."""
        return self.kind not in (Kind.PROJECTION, Kind.PHOTOGRAPH)

    @property
    def series_number(self) -> int | None:
        """Series Number, None where absent or no number."""
        value = str(self.header.get("SeriesNumber", "") or "").strip()
        return int(value) if value.lstrip("-").isdigit() else None

    @property
    def frame_of_reference_uid(self) -> str:
        """Frame of Reference UID, empty where absent."""
        return str(self.header.get("FrameOfReferenceUID", "") or "")

    def same_place(self, other: SeriesVolume) -> bool:
        """Whether both lie in one frame of reference, voxel on voxel."""
        return self.frame_of_reference_uid == other.frame_of_reference_uid and self.volume.same_grid(other.volume)


@dataclass(frozen=True, slots=True)
class RejectedSeries:
    """A series, or one volume of it, that cannot be used.

    ``kind`` and ``b_value`` are what its headers say it would have been; ``series_number`` helps people find it.
    """

    series_uid: str
    error: SeriesRejected
    kind: Kind = Kind.OTHER
    b_value: float | None = None
    series_number: int | None = None
    modality: str = ""


@dataclass(frozen=True, slots=True)
class LoadedStudy:
    """A study as loaded.

    Attributes
    ----------
    study_uid : str
    headers : tuple of pydicom.Dataset
        Every instance, images or not, without pixel data, sorted by SOP Instance UID.
    digests : dict
        SOP Instance UID → canonical data-set digest (:mod:`dicom_sr.digest`), same order.
    volumes : tuple of SeriesVolume
        Sorted by series number, series UID, b-value.
    rejected : tuple of RejectedSeries
    """

    study_uid: str
    headers: tuple[Dataset, ...]
    digests: dict[str, str]
    volumes: tuple[SeriesVolume, ...]
    rejected: tuple[RejectedSeries, ...]
    _by_uid: dict[str, Dataset] = field(default_factory=dict, repr=False, compare=False)

    def source_datasets(self, series_volume: SeriesVolume) -> list[Dataset]:
        """Headers of the instances a volume came from, in slice order; one for a multi-frame object."""
        uids = dict.fromkeys(frame.sop_instance_uid for frame in series_volume.frames)
        return [self._by_uid[uid] for uid in uids]
