"""Typed results: what a model says, before anybody turns it into DICOM.

Serialisable (``pickle`` is never used; see ``to_dict`` / arrays are kept beside as ``.npy``).
Units are UCUM coded terms, axes are named, probabilities lie in [0, 1], volumes are in mL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt


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
    """A measured number: concept, value, UCUM unit, and how it was measured."""

    name: CodedTerm
    value: float
    unit: CodedTerm
    method: CodedTerm | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """One segmented finding.

    Attributes
    ----------
    number : int
        Value of its voxels in :attr:`Segmentation.mask_zyx`, and its Segment Number: 1 … n without gaps.
    label : str
        Short English label, e.g. ``"Infarct core 1"``.
    category, finding, site : CodedTerm
        Segmented property category and type, anatomic region.
    volume_ml : float
        Sum of its voxels times voxel volume.
    quantities : tuple of Quantity
        Further measurements (mean ADC …). The volume is among them.
    key_slice : int
        Index along the slice axis where the region is largest.
    """

    number: int
    label: str
    category: CodedTerm
    finding: CodedTerm
    site: CodedTerm
    laterality: Laterality
    volume_ml: float
    quantities: tuple[Quantity, ...]
    key_slice: int


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A label mask on the native grid of one input.

    Attributes
    ----------
    role : str
        Input role (``"dwi"``) whose voxel grid the mask has, voxel for voxel.
    mask_zyx : numpy.ndarray
        uint8, shape of that input; 0 is background, ``n`` is the region with ``number == n``. Regions never overlap.
    regions : tuple of Region
        Largest volume first.
    """

    role: str
    mask_zyx: npt.NDArray[np.uint8]
    regions: tuple[Region, ...]


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
    """Report text. ``findings`` and ``impression`` are plain sentences in ``language`` (RFC 5646: ``en`` or ``ja``)."""

    language: str
    findings: str
    impression: str
    author: ModelReference | None = None
    notes: tuple[str, ...] = ()


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
    limitations : tuple of str
        Keys of fixed sentences the composer knows (``"baseline_not_validated"``, ``"subacute_missed"`` …).
    drafts : tuple of Draft
        One for each language asked for, in that order.
    refusal : RefusalReason or None
        Set when NOT_ASSESSED.
    evidence : dict
        Facts for ``why`` and the report (thresholds used, brain median ADC, signal-to-noise …). JSON-serialisable.
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
    limitations: tuple[str, ...] = ()
    drafts: tuple[Draft, ...] = ()
    refusal: RefusalReason | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
