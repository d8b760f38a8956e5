"""Typed results: what a model says, before anybody turns it into DICOM.

Serialisable (``pickle`` is never used; see ``to_dict`` / arrays are kept beside as ``.npy``).
Units are UCUM coded terms, axes are named, probabilities lie in [0, 1], volumes are in mL.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

LabelMask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""Labels of voxels: 0 is background."""

AFTER_SIGNING = "after_signing"
"""Limitation of a result that comes after a physician has signed the report of the study."""
SUBACUTE = "subacute_mode"
"""Limitation of a result for which what is bright on DWI alone was taken, too (:mod:`models.subacute`)."""


@dataclass(frozen=True, slots=True)
class CodedTerm:
    """A coded concept (PS3.3 8.2): code value, coding scheme designator, code meaning."""

    value: str
    scheme: str
    meaning: str


class Laterality(StrEnum):
    """Side of the patient, never of the picture."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"
    MIDLINE = "midline"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """What the run can say."""

    FOUND = "found"
    NOTHING_FOUND = "nothing_found"
    NOT_ASSESSED = "not_assessed"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured number: concept, value, UCUM unit, and how it was measured.

    ``interval`` is the range in which the value lies, in the same unit, lower bound first; ``interval_meaning`` says how it
    was made (``"volume over decision thresholds …"``, ``"ensemble"``). ``is_uncertainty`` is whether it is a measurement's
    uncertainty, which SR has codes for; what other thresholds would have given is none. ``remark`` says in words what codes
    do not say of the measurement.
    """

    name: CodedTerm
    value: float
    unit: CodedTerm
    method: CodedTerm | None = None
    interval: tuple[float, float] | None = None
    interval_meaning: str = ""
    is_uncertainty: bool = True
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Tracking:
    """One lesion over time: Tracking UID and Tracking Identifier (PS3.3 C.8.20.2, TID 1419)."""

    uid: str
    identifier: str


@dataclass(frozen=True, slots=True)
class Region:
    """One segmented finding.

    Attributes
    ----------
    number : int
        Value of its voxels in its layer of :class:`Segmentation`, and its Segment Number: 1 … n without gaps.
    label : str
        Short English label, e.g. ``"Infarct core 1"``.
    category, finding, site : CodedTerm
        Segmented property category and type, anatomic region.
    volume_ml : float or None
        Sum of its voxels times voxel volume; None on a projection, whose pixels are shadows without a volume.
    quantities : tuple of Quantity
        Further measurements (mean ADC …). The volume, where there is one, is among them.
    key_slice : int
        Index along the slice axis where the region is largest.
    tracking : Tracking or None
        Set where the same lesion was followed from an earlier study; None lets the writers make an identity of its own.
    """

    number: int
    label: str
    category: CodedTerm
    finding: CodedTerm
    site: CodedTerm
    laterality: Laterality
    volume_ml: float | None
    quantities: tuple[Quantity, ...]
    key_slice: int
    tracking: Tracking | None = None


def total_volume_ml(regions: Iterable[Region]) -> float:
    """Sum over the regions that have a volume, in mL."""
    return float(sum(region.volume_ml or 0.0 for region in regions))


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A label mask on the native grid of one input.

    Attributes
    ----------
    role : str
        Input role (``"dwi"``) whose voxel grid the mask has, voxel for voxel.
    mask_zyx : numpy.ndarray
        uint8 (uint16 where there are more than 255 regions), shape of that input; 0 is background, ``n`` is the region
        with ``number == n``. Regions of one mask never overlap.
    regions : tuple of Region
        Largest volume first.
    probability_zyx : numpy.ndarray or None
        float32 in [0, 1], same shape: how likely a voxel belongs to the region the mask gives it, or, outside of every
        region, to any. None where the model only knows yes and no.
    overlying : tuple of numpy.ndarray
        Further masks like ``mask_zyx``, for regions that lie over those of the masks before, as shadows on a radiograph do;
        each region is in one mask. Only results on a projection have them.
    seeds_zyx : numpy.ndarray or None
        bool, same shape: voxels beyond doubt, for a chain that draws the outlines anew. Not stored with the result.
    """

    role: str
    mask_zyx: LabelMask
    regions: tuple[Region, ...]
    probability_zyx: npt.NDArray[np.float32] | None = None
    overlying: tuple[LabelMask, ...] = ()
    seeds_zyx: npt.NDArray[np.bool_] | None = None

    @property
    def layers(self) -> tuple[LabelMask, ...]:
        """All masks; their regions may lie over each other."""
        return (self.mask_zyx, *self.overlying)

    def where(self, number: int) -> npt.NDArray[np.bool_]:
        """Voxels (z, y, x) of one region."""
        for layer in self.layers:
            inside = layer == number
            if inside.any():
                return inside
        return np.zeros(self.mask_zyx.shape, bool)


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition looked for in a study or a part of it, with how likely it is.

    Attributes
    ----------
    concept : CodedTerm
        What was looked for.
    probability : float
        In [0, 1]; calibrated or not, as the card says.
    operating_point : float or None
        From this probability on the finding counts as present; None where the model has none.
    present : bool
        What the operating point, or the model itself, decided.
    site : CodedTerm or None
        Anatomic region.
    """

    concept: CodedTerm
    probability: float
    operating_point: float | None
    present: bool
    site: CodedTerm | None = None
    laterality: Laterality = Laterality.UNKNOWN


class MarkShape(StrEnum):
    """Form of a mark, named as the graphic types of PS3.3 C.18.6.1.1."""

    POINT = "point"
    BOX = "box"
    POLYGON = "polygon"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on one slice of an input.

    Attributes
    ----------
    role : str
        Input role whose grid ``slice_index`` and ``points_yx`` count in.
    slice_index : int
        Index along the slice axis, from 0.
    points_yx : tuple of (float, float)
        Row and column, from 0 at the centre of the first voxel. POINT has one, BOX two opposite corners, POLYGON three or
        more, not repeated at the end.
    label : str
        Short English label.
    finding : Finding or None
        What is marked, with its probability.
    """

    role: str
    shape: MarkShape
    slice_index: int
    points_yx: tuple[tuple[float, float], ...]
    label: str
    finding: Finding | None = None
    quantities: tuple[Quantity, ...] = ()


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A number for each voxel of an input: a probability, a saliency, a parameter.

    Attributes
    ----------
    role : str
        Input role whose voxel grid the map has.
    values_zyx : numpy.ndarray
        float32, finite, shape of that input.
    quantity, unit : CodedTerm
        What the numbers mean (CID 7180 style) and their UCUM unit (``1`` for a probability).
    label : str
        Short English label.
    """

    role: str
    values_zyx: npt.NDArray[np.float32]
    quantity: CodedTerm
    unit: CodedTerm
    label: str


class Change(StrEnum):
    """How a lesion compares with the earlier study."""

    NEW = "new"
    LARGER = "larger"
    SMALLER = "smaller"
    UNCHANGED = "unchanged"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class LesionChange:
    """One followed lesion: its identity, both volumes in mL (None where it is not there), and the change.

    Attributes
    ----------
    current_number, prior_number : int or None
        :attr:`Region.number` in the segmentation of now and of then. Where lesions have merged or parted it is the one that
        overlaps most, and the volumes are those of all of them.
    """

    tracking: Tracking
    label: str
    current_ml: float | None
    prior_ml: float | None
    change: Change
    current_number: int | None = None
    prior_number: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison with one earlier study of the same patient.

    Attributes
    ----------
    prior_study_uid, prior_segmentation_uid, prior_segmentation_class_uid : str
        The earlier study and the SEG its volumes are from; no SEG where nothing had been found.
    prior_date : str
        DICOM DA of the earlier study; empty where unknown.
    current_ml, prior_ml : float
        Total volumes.
    change : Change
        Of the whole.
    lesions : tuple of LesionChange
        Followed one by one; those of now first, in their order, then the resolved ones.
    tolerance : float
        Relative change up to which a lesion counts as unchanged.
    tolerance_ml : float
        Absolute change, in mL, up to which it does.
    """

    prior_study_uid: str
    prior_series_uid: str
    prior_segmentation_uid: str
    prior_segmentation_class_uid: str
    prior_date: str
    current_ml: float
    prior_ml: float
    change: Change
    lesions: tuple[LesionChange, ...] = ()
    tolerance: float = 0.2
    tolerance_ml: float = 0.3


class NotCompared(StrEnum):
    """Why an earlier result was not compared with."""

    IDENTITY_DOUBTFUL = "identity_doubtful"
    NOT_COMPARABLE = "not_comparable"
    IMAGES_GONE = "images_gone"


@dataclass(frozen=True, slots=True)
class Replaced:
    """The earlier result on the same study that a result takes the place of, and what is different since.

    Attributes
    ----------
    moment : str
        When it was made, site's wall clock: ``"2026-01-31 03:12"``.
    run : int
        Its number.
    outcome : Outcome or None
        None where that run had failed.
    total_ml : float or None
        Its total volume.
    images_added, images_removed : int
        Images this run took and that one did not, and the other way round.
    series_added : tuple of str
        Series Descriptions of the images added, each once.
    """

    moment: str
    run: int
    outcome: Outcome | None
    total_ml: float | None
    images_added: int = 0
    images_removed: int = 0
    series_added: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Which model, exactly. ``digest`` is the SHA-256 (hex) over card and graph files; ``provider`` the ONNX Runtime
    execution provider that really ran; ``parameters`` the settings that change a result."""

    model_id: str
    version: str
    name: str
    manufacturer: str
    digest: str
    provider: str = "CPUExecutionProvider"
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """Report text. ``findings`` and ``impression`` are plain sentences in ``language`` (RFC 5646: ``en`` or ``ja``).

    Attributes
    ----------
    looked_at : tuple of int
        Slices of the grid the text is about that its author was shown.
    objections : tuple of str
        What was found wrong with a generated text, English; it was thrown away, or is marked in the notes, by policy.
    """

    language: str
    findings: str
    impression: str
    author: ModelReference | None = None
    notes: tuple[str, ...] = ()
    looked_at: tuple[int, ...] = ()
    objections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusalReason:
    """Why nothing was assessed: the error's stable code, its message, what to do, and facts (slice positions …)."""

    code: str
    message: str
    remedy: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Everything one run says about one study.

    Attributes
    ----------
    outcome : Outcome
        FOUND, NOTHING_FOUND or NOT_ASSESSED.
    title : str
        What was looked for, English, e.g. ``"Acute infarct core on diffusion MR"``.
    finding, site : CodedTerm
        The concept looked for and where; present also when nothing was found.
    model : ModelReference
        Who says so.
    segmentation : Segmentation or None
        None unless FOUND.
    total_ml : float or None
        Sum over regions; 0.0 when NOTHING_FOUND; None when NOT_ASSESSED.
    detection_limit_ml : float or None
        Volume from which this run finds nearly every infarct of ordinary contrast, on these images. Single findings may
        be smaller; the reporting threshold bounds those.
    totals : tuple of Quantity
        Study-level measurements.
    findings : tuple of Finding
        Conditions with their probabilities.
    marks : tuple of Mark
        Points, boxes and polygons.
    heat_maps : tuple of HeatMap
        Numbers for each voxel.
    comparison : Comparison or None
        With the earlier study, where there is one.
    not_compared : NotCompared or None
        Set where there is an earlier result and it was not compared with.
    replaces : Replaced or None
        The earlier result on this study, where this is a later version.
    limitations : tuple of str
        Keys of fixed sentences the composer knows (``"baseline_not_validated"``, ``"subacute_missed"`` …).
    drafts : tuple of Draft
        One for each language asked for, in that order.
    refusal : RefusalReason or None
        Set when NOT_ASSESSED.
    evidence : dict
        Facts for ``why`` and the report (thresholds used, brain median ADC, signal-to-noise …). JSON-serialisable.
    embedding : numpy.ndarray or None
        float32, one axis, of length one: what the model makes of the image, for finding similar studies of this site. It
        goes into no object and is not stored with the result.
    """

    outcome: Outcome
    title: str
    finding: CodedTerm
    site: CodedTerm
    model: ModelReference
    segmentation: Segmentation | None = None
    total_ml: float | None = None
    detection_limit_ml: float | None = None
    totals: tuple[Quantity, ...] = ()
    findings: tuple[Finding, ...] = ()
    marks: tuple[Mark, ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    comparison: Comparison | None = None
    not_compared: NotCompared | None = None
    replaces: Replaced | None = None
    limitations: tuple[str, ...] = ()
    drafts: tuple[Draft, ...] = ()
    refusal: RefusalReason | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    embedding: npt.NDArray[np.float32] | None = None

    @property
    def grid_role(self) -> str | None:
        """Input role whose voxel grid everything with a place counts on; None where nothing has a place."""
        if self.segmentation is not None:
            return self.segmentation.role
        roles = [mark.role for mark in self.marks] + [heat_map.role for heat_map in self.heat_maps]
        return roles[0] if roles else None
