"""What pictures and PDF reports of one result show: which slices, under which names, with which figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from dicom_sr.pictures.orientation import position
from dicom_sr.pictures.painter import Painter, key_slices
from dicom_sr.pictures.window import window_of
from dicom_sr.pictures.words import Words, words
from models.report_facts import format_ml
from models.results import Draft, ModelReference, Outcome, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume, SourceFrame


@dataclass(frozen=True)
class Illustration:
    """An assessed result as it is drawn.

    Attributes
    ----------
    draft : Draft or None
        Text in the language of the picture; None where the result has no text.
    headers : dict
        Source headers by SOP Instance UID.
    """

    result: StudyResult
    source: SeriesVolume
    draft: Draft | None
    headers: dict[str, Dataset]

    @classmethod
    def of(
        cls, result: StudyResult, study: LoadedStudy, source: SeriesVolume, draft: Draft | None = None
    ) -> Illustration:
        """Illustration of a result on the images it was computed on; in its first language where no draft is given."""
        chosen = draft or next(iter(result.drafts), None)
        return cls(result, source, chosen, {str(h.SOPInstanceUID): h for h in study.source_datasets(source)})

    @property
    def words(self) -> Words:
        """Fixed words in the language of the draft."""
        return words(self.draft.language if self.draft else "en")

    @cached_property
    def painter(self) -> Painter:
        """Draws its slices."""
        segmentation = self.result.segmentation
        role = segmentation.role if segmentation else None
        return Painter(
            volume=self.source.volume,
            window=window_of(self.source, list(self.headers.values())),
            mask_zyx=segmentation.mask_zyx if segmentation else None,
            marks=tuple(mark for mark in self.result.marks if role is None or mark.role == role),
        )

    def slices(self, limit: int) -> list[int]:
        """At most ``limit`` slices: those of the largest regions, then those with most of the finding."""
        regions = self.result.segmentation.regions if self.result.segmentation else ()
        return key_slices(self.painter, [region.key_slice for region in regions], limit)

    def slices_with_findings(self) -> int:
        """How many slices have anything marked in them."""
        marked = {mark.slice_index for mark in self.painter.marks}
        if self.painter.mask_zyx is not None:
            present = self.painter.mask_zyx.any(axis=(1, 2))
            marked |= {int(k) for k in np.flatnonzero(present)}
        return len(marked)

    def frames(self, slices: Sequence[int]) -> list[SourceFrame]:
        """Source images of slices."""
        return [self.source.frames[k] for k in slices]

    def name_of(self, slice_index: int) -> str:
        """How a reader finds the slice: series and image number as the viewer shows them, and where it lies."""
        frame = self.source.frames[slice_index]
        number = self.headers[frame.sop_instance_uid].get("InstanceNumber")
        parts = [] if self.source.series_number is None else [f"{self.words.series} {self.source.series_number}"]
        if frame.frame_number is not None:
            parts.append(f"{self.words.image} {number or '?'}/{frame.frame_number}")
        elif number not in (None, ""):
            parts.append(f"{self.words.image} {number}")
        shape = self.source.volume.array_zyx.shape
        parts.append(position(self.source.volume.affine_lps, (shape[1], shape[2]), slice_index))
        return ", ".join(parts)

    def headline(self) -> str:
        """The result in a sentence."""
        if self.draft is not None:
            return self.draft.impression
        if self.result.outcome is Outcome.NOTHING_FOUND:
            return f"{self.result.title}: {self.words.nothing_marked}"
        return self.result.title

    def limits(self) -> list[str]:
        """Detection limit first, then what the text says about its limits and its author."""
        lines = []
        if self.result.detection_limit_ml is not None:
            lines.append(f"{self.words.detection_limit}: {format_ml(self.result.detection_limit_ml)} mL")
        lines += self.draft.notes if self.draft else ()
        said = " ".join(lines)
        lines += [line for model, line in self.origins() if model.digest[:12] not in said]
        return lines

    def origins(self) -> list[tuple[ModelReference, str]]:
        """Models that took part, and each one's name, version and weights."""
        models = [self.result.model]
        if self.draft is not None and self.draft.author is not None:
            models.append(self.draft.author)
        return [
            (m, f"{self.words.model}: {m.name}, {m.version}, SHA-256 {m.digest[:12]}, {m.manufacturer}") for m in models
        ]
