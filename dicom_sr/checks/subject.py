"""What is checked: objects as a receiver will read them, beside what they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from dicom_sr.checks.frames import FrameGroups, take_frames
from dicom_sr.profile import ObjectKind, Profile
from dicom_sr.rendering import RenderedObject, kind_of
from models.results import Outcome, StudyResult

if TYPE_CHECKING:
    from dicom_sr.combined_status import Account
    from dicom_sr.series import LoadedStudy, SeriesVolume


@dataclass(frozen=True)
class Subject:
    """One set of objects, read back from its bytes.

    Attributes
    ----------
    objects : tuple of (str, FileDataset)
        Role and data set. Of per-frame functional groups it has each different macro once.
    frames : dict
        Role → functional groups of each frame; empty for objects without frames.
    profile : Profile
        What the set was rendered for.
    files : tuple of (str, bytes)
        Role and the whole file.
    known : tuple of Dataset
        Headers of instances outside of the study and the set that may be referred to: objects of earlier runs, and of the
        study compared with.
    accounts : tuple of Account
        The analyses that a combined status is about; empty for the set of one result.
    """

    objects: tuple[tuple[str, FileDataset], ...]
    study: LoadedStudy
    result: StudyResult
    source: SeriesVolume | None
    frames: dict[str, tuple[FrameGroups, ...]]
    profile: Profile = field(default_factory=Profile)
    files: tuple[tuple[str, bytes], ...] = ()
    known: tuple[Dataset, ...] = ()
    accounts: tuple[Account, ...] = ()

    @classmethod
    def of(
        cls,
        objects: Sequence[RenderedObject],
        study: LoadedStudy,
        result: StudyResult,
        source: SeriesVolume | None,
        *,
        profile: Profile,
        known: Sequence[Dataset] = (),
        accounts: Sequence[Account] = (),
    ) -> Subject:
        """Decode ``objects`` from the bytes that will be written."""
        files = tuple((rendered.role, rendered.encoded) for rendered in objects)
        decoded = tuple((role, dcmread(BytesIO(content))) for role, content in files)
        frames = {role: take_frames(dataset) for role, dataset in decoded}
        return cls(decoded, study, result, source, frames, profile, files, tuple(known), tuple(accounts))

    @property
    def results(self) -> tuple[StudyResult, ...]:
        """Every result the set speaks of."""
        return tuple(each.result for each in self.accounts) or (self.result,)

    @property
    def is_status(self) -> bool:
        """Whether the set says what the AI did, and nothing about the patient."""
        return bool(self.accounts) or self.result.outcome is Outcome.NOT_ASSESSED

    @cached_property
    def headers(self) -> dict[str, Dataset]:
        """Source headers by SOP Instance UID."""
        return {str(header.SOPInstanceUID): header for header in self.study.headers}

    @cached_property
    def base(self) -> Dataset:
        """The source header that patient and study attributes are measured against."""
        return self.source.header if self.source is not None else self.study.headers[0]

    def of_kind(self, kind: ObjectKind) -> list[tuple[str, FileDataset]]:
        """Role and data set of every object of a kind."""
        return [(role, dataset) for role, dataset in self.objects if kind_of(role) == kind]

    def segment_regions(self, role: str) -> dict[int, int]:
        """Segment Number → region number in the segmentation with that role: all of them, or the one it is named after."""
        _, dash, number = role.partition("-")
        if dash:
            return {1: int(number)}
        segmentation = self.result.segmentation
        return {region.number: region.number for region in segmentation.regions} if segmentation is not None else {}

    @property
    def reports(self) -> Iterator[tuple[str, FileDataset]]:
        """Structured reports among the objects."""
        return ((role, dataset) for role, dataset in self.objects if dataset.get("Modality") == "SR")

    @property
    def documents(self) -> Iterator[tuple[str, FileDataset]]:
        """Objects with a content tree and evidence: reports and key object selections."""
        return ((role, dataset) for role, dataset in self.objects if dataset.get("Modality") in ("SR", "KO"))


def walk(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every sequence below ``dataset``, depth first."""
    for element in dataset:
        if element.VR == "SQ":
            for entry in element.value:
                yield entry
                yield from walk(entry)


def concept(entry: Dataset, keyword: str = "ConceptNameCodeSequence") -> str:
    """Code value of a code sequence, empty when absent."""
    sequence = entry.get(keyword)
    return str(sequence[0].get("CodeValue", "")) if sequence else ""
