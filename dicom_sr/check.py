"""The check every set of objects passes before it may leave this machine.

It reads the objects back from the very bytes that will be written and covers, without external programs, what validators
and careful readers look at: identity, UIDs, provenance, codes, references, report structure, and the overlay voxel by
voxel. A set that fails is never sent; a status object goes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_sr.checks.characters import check_characters
from dicom_sr.checks.context import check_context, check_uids
from dicom_sr.checks.contours import check_contours
from dicom_sr.checks.key_objects import check_key_objects
from dicom_sr.checks.maps import check_maps
from dicom_sr.checks.measurements import MEASUREMENT_CLASSES, check_measurements
from dicom_sr.checks.notes import check_notes
from dicom_sr.checks.overlay import check_overlay
from dicom_sr.checks.pdf import check_pdf
from dicom_sr.checks.pictures import check_pictures
from dicom_sr.checks.presentation import check_presentation
from dicom_sr.checks.provenance import check_codes, check_provenance
from dicom_sr.checks.references import check_references
from dicom_sr.checks.reports import check_reports
from dicom_sr.checks.subject import Subject
from dicom_sr.combined_status import Account
from dicom_sr.errors import ObjectInvalid, OverlayMismatch
from dicom_sr.frames import LABEL_MAP_SEGMENTATION
from dicom_sr.profile import ObjectKind, Profile
from dicom_sr.rendering import COMBINED, NOTES, SUPERSEDED, RenderedObject, kind_of
from models.results import Outcome, StudyResult

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume

_OVERLAYS: tuple[Callable[[Subject], Iterator[str]], ...] = (check_overlay, check_maps, check_contours)
_PARTS: tuple[Callable[[Subject], Iterator[str]], ...] = (
    check_uids,
    check_characters,
    check_context,
    check_provenance,
    check_codes,
    check_references,
    check_reports,
    check_pictures,
    check_pdf,
    check_measurements,
    check_key_objects,
    check_notes,
    check_presentation,
)
_CLASSES: dict[ObjectKind, frozenset[str]] = {
    "seg": frozenset({SegmentationStorage, LABEL_MAP_SEGMENTATION}),
    "measurements": MEASUREMENT_CLASSES,
    "text": frozenset({BasicTextSRStorage}),
    "status": frozenset({BasicTextSRStorage}),
    "secondary_capture": frozenset({SecondaryCaptureImageStorage, MultiFrameTrueColorSecondaryCaptureImageStorage}),
    "summary": frozenset({SecondaryCaptureImageStorage}),
    "pdf": frozenset({EncapsulatedPDFStorage}),
    "presentation": frozenset({GrayscaleSoftcopyPresentationStateStorage}),
    "key_objects": frozenset({KeyObjectSelectionDocumentStorage}),
    "parametric_map": frozenset({ParametricMapStorage}),
    "rtstruct": frozenset({RTStructureSetStorage}),
}
"""SOP classes each kind of object may have."""
_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError)
"""What reading a damaged data set raises: the damage is the finding."""


def check(
    objects: Sequence[RenderedObject],
    study: LoadedStudy,
    result: StudyResult,
    source: SeriesVolume | None,
    *,
    profile: Profile | None = None,
    known: Sequence[Dataset] = (),
    accounts: Sequence[Account] = (),
) -> int:
    """Refuse a set of objects that is not right.

    Parameters
    ----------
    objects : sequence of RenderedObject
        The whole set; references within it have to resolve.
    study, result, source
        What the set was rendered from.
    profile : Profile or None
        What it was rendered for; None is the default profile.
    known : sequence of Dataset
        Headers of instances outside of study and set that it may refer to.
    accounts : sequence of Account
        What a combined status is about; ``result`` is that of one of them then.

    Returns
    -------
    int
        How many parts of the check the set has passed.

    Raises
    ------
    OverlayMismatch
        A segmentation, a map or contours, read back, are not the result on the source's planes.
    ObjectInvalid
        Anything else; ``detail["problems"]`` lists all of it, without patient data.
    """
    try:
        subject = Subject.of(
            objects, study, result, source, profile=profile or Profile(), known=known, accounts=accounts
        )
    except _MALFORMED as error:
        raise ObjectInvalid(f"an object cannot be read back ({type(error).__name__})") from error
    if wrong := [problem for part in _OVERLAYS for problem in _run(part, subject)]:
        raise OverlayMismatch(wrong[0], problems=wrong)
    problems = list(_set_problems(subject))
    for part in _PARTS:
        problems += _run(part, subject)
    if problems:
        raise ObjectInvalid(f"{len(problems)} problems, first: {problems[0]}", problems=problems)
    return len(_PARTS) + len(_OVERLAYS) + 1


def _run(part: Callable[[Subject], Iterator[str]], subject: Subject) -> list[str]:
    problems: list[str] = []
    try:
        problems.extend(part(subject))
    except _MALFORMED as error:
        # The error's own words may quote a patient attribute.
        problems.append(f"{part.__name__}: an object is malformed ({type(error).__name__})")
    return problems


def _set_problems(subject: Subject) -> Iterator[str]:
    """The set as a whole: one object for each role, of the role's class, fitting the outcome."""
    roles = [role for role, _ in subject.objects]
    if not roles:
        yield "the set is empty"
    if len(set(roles)) != len(roles):
        yield "two objects have the same role"
    for role, dataset in subject.objects:
        kind = kind_of(role)
        if subject.accounts and not (role.startswith(COMBINED) or kind == "summary"):
            yield f"{role}: does not belong to a combined status"
        if not subject.accounts and not _fits(role, kind, subject.result.outcome):
            yield f"{role}: does not fit an outcome of {subject.result.outcome}"
        if dataset.get("SOPClassUID") not in _CLASSES.get(kind, frozenset()):
            yield f"{role}: has the wrong SOP class"


def _fits(role: str, kind: ObjectKind, outcome: Outcome) -> bool:
    """Whether a result with that outcome may become such an object. An earlier result can be taken back with any."""
    if role in NOTES or role.startswith(f"{SUPERSEDED}-"):
        return True
    if outcome is Outcome.NOT_ASSESSED:
        return kind in ("status", "summary")
    return kind != "status" or outcome is Outcome.NOTHING_FOUND
