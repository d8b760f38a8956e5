"""Notes that take earlier objects back: an archive hides what a rejection names, so it names nothing else than those."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_sr.checks.key_objects import selection_problems
from dicom_sr.checks.subject import Subject, walk
from dicom_sr.rendering import REJECTION, SUPERSEDED

_REJECTED = "113001"
_LISTED = re.compile(r"^[a-z_]+(?:-[a-z0-9]+)*: ([0-9]+(?:\.[0-9]+)+)\r?$", re.MULTILINE)


def check_notes(subject: Subject) -> Iterator[str]:
    """Exactly the objects that are taken back, by reference and by words, under a title that says so.

    They are :attr:`Subject.known`: no image of the study, and no object that stands, may be among them.
    """
    expected = {str(each.SOPInstanceUID) for each in subject.known}
    for role, document in subject.objects:
        if role == REJECTION:
            yield from _rejection_problems(role, document, expected)
        elif role.startswith(SUPERSEDED) and expected:
            # Where words are all there is, people act on them.
            yield from _words_problems(role, document, expected, set(subject.study.digests))


def _rejection_problems(role: str, document: Dataset, expected: set[str]) -> Iterator[str]:
    references = yield from selection_problems(role, document, _REJECTED, "Rejected for Quality Reasons")
    evidence = document.get("CurrentRequestedProcedureEvidenceSequence", [])
    for named in (_named(references), _named([each for item in evidence for each in walk(item)])):
        if named != expected:
            yield f"{role}: does not reject exactly the objects that are taken back"


def _named(items: list[Dataset]) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID) for item in items for reference in item.get("ReferencedSOPSequence", [])
    }


def _words_problems(role: str, document: Dataset, expected: set[str], images: set[str]) -> Iterator[str]:
    words = "\n".join(str(entry.TextValue) for entry in walk(document) if "TextValue" in entry)
    if set(_LISTED.findall(words)) != expected or any(uid in words for uid in images):
        yield f"{role}: does not name exactly the objects that are taken back"
