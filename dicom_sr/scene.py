"""What a set of objects is made from, and what of it is made already."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_sr.rendering import RenderContext, RenderedObject
from dicom_sr.source_header import SourceHeader
from models.results import StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume


@dataclass
class Scene:
    """An assessed result beside the study it belongs to.

    Attributes
    ----------
    header : SourceHeader
        Patient, study and equipment attributes every object takes over.
    source : SeriesVolume
        The volume whose grid the result counts in.
    made : list of RenderedObject
        Objects of the set so far; later ones may refer to them.
    """

    result: StudyResult
    study: LoadedStudy
    header: SourceHeader
    source: SeriesVolume
    context: RenderContext
    made: list[RenderedObject] = field(default_factory=list)

    @cached_property
    def known(self) -> list[Dataset]:
        """Headers of the source images a report may refer to."""
        return list(self.study.source_datasets(self.source))
