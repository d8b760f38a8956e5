"""Key object selections name what they should, under the title they should have."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from pydicom.dataset import Dataset

from dicom_sr.checks.subject import Subject, concept
from dicom_sr.rendering import NOTES, kind_of

_OF_INTEREST, _OBSERVER_UID, _DESCRIPTION = "113000", "121012", "113012"


def check_key_objects(subject: Subject) -> Iterator[str]:
    """TID 2010: title, observer, no purpose of reference; exactly the images that show the findings (PS3.3 A.35.4)."""
    for role, document in subject.objects:
        if kind_of(role) != "key_objects" or role in NOTES:
            continue
        references = yield from selection_problems(role, document, _OF_INTEREST, "Of Interest")
        if _named(references) != _expected(subject):
            yield f"{role}: does not select exactly the images of the findings"


def selection_problems(role: str, document: Dataset, title: str, meaning: str) -> Generator[str, None, list[Dataset]]:
    """What any TID 2010 selection must say, whatever it selects for; returns its items that refer to objects."""
    template = document.get("ContentTemplateSequence")
    if document.get("Modality") != "KO" or not template or template[0].get("TemplateIdentifier") != "2010":
        yield f"{role}: is not a TID 2010 key object selection"
    if concept(document) != title:
        yield f"{role}: the title is not {meaning}"
    items = document.get("ContentSequence", [])
    if not {_OBSERVER_UID, _DESCRIPTION} <= {concept(entry) for entry in items}:
        yield f"{role}: names no device observer, or does not say what it selects and why"
    references = [entry for entry in items if "ReferencedSOPSequence" in entry]
    if any("ConceptNameCodeSequence" in entry for entry in references):
        yield f"{role}: a reference states a purpose (TID 2010 forbids it)"
    return references


def _named(references: list[Dataset]) -> set[tuple[str, int | None]]:
    named: set[tuple[str, int | None]] = set()
    for entry in references:
        reference = entry.ReferencedSOPSequence[0]
        frames = reference.get("ReferencedFrameNumber")
        numbers = [None] if frames is None else [frames] if isinstance(frames, int) else list(frames)
        named |= {(str(reference.ReferencedSOPInstanceUID), None if n is None else int(n)) for n in numbers}
    return named


def _expected(subject: Subject) -> set[tuple[str, int | None]]:
    """The key slice of every region and the slice of every mark; of many, the first twenty."""
    result, source = subject.result, subject.source
    if source is None:
        return set()
    slices: list[int] = []
    if result.segmentation is not None:
        slices += [region.key_slice for region in result.segmentation.regions]
    slices += [mark.slice_index for mark in result.marks]
    frames = [source.frames[k] for k in list(dict.fromkeys(slices))[:20]]
    return {(frame.sop_instance_uid, frame.frame_number) for frame in frames}
