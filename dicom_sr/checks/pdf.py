"""PDF reports, opened by another library than wrote them: whole, with the warning on every page, saying what the result says."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from dicom_sr.checks.drawn_slices import Pixels, slice_problems
from dicom_sr.checks.subject import Subject
from dicom_sr.encapsulated_pdf import COLUMNS, TILE, TILES
from dicom_sr.illustration import Illustration
from dicom_sr.pictures.lettering import legible
from dicom_sr.pictures.montage import GAP, caption_height
from dicom_sr.pictures.words import BANNER
from dicom_sr.rendering import kind_of
from dicom_sr.subject_line import identifies
from models.results import Draft, Outcome

_MIME_TYPE = "application/pdf"
_UNREADABLE = (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError)


def check_pdf(subject: Subject) -> Iterator[str]:
    """Encapsulated PDF objects of a set (PS3.3 A.45.1, C.24.2)."""
    for role, dataset in subject.objects:
        if kind_of(role) != "pdf":
            continue
        yield from _attribute_problems(role, dataset, subject)
        if subject.result.outcome is Outcome.NOT_ASSESSED:
            yield f"{role}: a report where nothing was assessed"
        try:
            reader = _opened(bytes(dataset.get("EncapsulatedDocument", b"")))
            pages = [_letters(page.extract_text()) for page in reader.pages]
            pictures = [
                np.asarray(image.image.convert("RGB")) for page in reader.pages for image in page.images if image.image
            ]
        except _UNREADABLE as error:
            yield f"{role}: the document is no readable PDF ({type(error).__name__})"
            continue
        yield from _text_problems(role, pages, dataset, subject)
        yield from _picture_problems(role, pictures, subject)


def _opened(content: bytes) -> PdfReader:
    if not content.startswith(b"%PDF-"):
        raise ValueError("no PDF header")
    return PdfReader(BytesIO(content))


def _letters(text: str) -> str:
    return "".join(c for c in legible(text) if not c.isspace())


def _attribute_problems(role: str, dataset: Dataset, subject: Subject) -> Iterator[str]:
    if dataset.get("MIMETypeOfEncapsulatedDocument") != _MIME_TYPE:
        yield f"{role}: MIME type is not {_MIME_TYPE}"
    if dataset.get("VerificationFlag") != "UNVERIFIED":
        yield f"{role}: claims a physician's review"
    if dataset.get("BurnedInAnnotation") != ("YES" if identifies(dataset) else "NO"):
        yield f"{role}: Burned In Annotation is not what is printed"
    if not dataset.get("DocumentTitle") or not dataset.get("ConceptNameCodeSequence"):
        yield f"{role}: has no title"
    length, content = int(dataset.get("EncapsulatedDocumentLength", 0)), bytes(dataset.get("EncapsulatedDocument", b""))
    if len(content) != length + length % 2 or not content[:length].rstrip().endswith(b"%%EOF"):
        yield f"{role}: Encapsulated Document Length is not the document's"
    named = {str(item.get("ReferencedSOPInstanceUID")) for item in dataset.get("SourceInstanceSequence", [])}
    used = set() if subject.source is None else {frame.sop_instance_uid for frame in subject.source.frames}
    if named != used:
        yield f"{role}: Source Instance Sequence does not name the images used"


def _text_problems(role: str, pages: list[str], dataset: Dataset, subject: Subject) -> Iterator[str]:
    if not pages:
        yield f"{role}: the document has no page"
        return
    if not all(_letters(BANNER) in page for page in pages):
        yield f"{role}: the warning is not on every page"
    everything, model = "".join(pages), subject.result.model
    if model.digest[:12] not in everything or _letters(model.version) not in everything:
        yield f"{role}: the document does not name the model"
    patient_id = str(dataset.get("PatientID", "") or "")
    if patient_id and not all(_letters(patient_id) in page for page in pages):
        yield f"{role}: a page does not say whose it is"
    draft = next((d for d in subject.result.drafts if role == f"pdf-{d.language}"), None)
    if draft is None:
        yield f"{role}: no draft is in its language"
    elif not _says(everything, draft):
        yield f"{role}: the text is not the draft's"


def _says(everything: str, draft: Draft) -> bool:
    return all(
        _letters(line) in everything for text in (draft.findings, draft.impression) for line in text.splitlines()
    )


def _picture_problems(role: str, pictures: list[Pixels], subject: Subject) -> Iterator[str]:
    """The one picture shows the key slices, each with its outlines."""
    if subject.source is None or len(pictures) != 1:
        yield f"{role}: not exactly one picture"
        return
    slices = Illustration.of(subject.result, subject.study, subject.source).slices(TILES)
    columns = min(COLUMNS, len(slices))
    high = TILE + GAP + caption_height(TILE)
    for n, k in enumerate(slices):
        top, left = high * (n // columns), (TILE + GAP) * (n % columns)
        square = pictures[0][top : top + TILE, left : left + TILE]
        if square.shape != (TILE, TILE, 3):
            yield f"{role}: there is no room for slice {n + 1}"
            return
        yield from (f"{role}: slice {n + 1} {problem}" for problem in slice_problems(square, k, subject))
