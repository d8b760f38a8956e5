"""Key Object Selection documents (PS3.3 A.35.4) after TID 2010 (PS3.16): which objects to look at, or not to look at.

One writer for every title of CID 7010: key images of a result are (113000 DCM Of Interest), objects taken back are
(113001 DCM Rejected for Quality Reasons) and its relatives (IHE IOCM, RAD TF-2 4.66).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import (
    CodeContentItem,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.provenance import observer
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import evidence, referenced_requests
from models.results import ModelReference

ROLE = "key_objects"

_NOT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT Structure Set
    "1.2.840.10008.5.1.4.1.1.66.5",  # surfaces
    "1.2.840.10008.5.1.4.1.1.67",  # real-world value mappings
)


@dataclass(frozen=True, slots=True)
class KeyObject:
    """An object a selection names.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid, series_uid, study_uid : str
        Where it is.
    frame_numbers : tuple of int
        Frames of a multi-frame image, from 1; empty means all of it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, header: Dataset, frame_numbers: Sequence[int] = ()) -> KeyObject:
        """The object whose header this is."""
        return cls(
            str(header.SOPClassUID),
            str(header.SOPInstanceUID),
            str(header.SeriesInstanceUID),
            str(header.StudyInstanceUID),
            tuple(frame_numbers),
        )

    @property
    def is_image(self) -> bool:
        """Whether it is named by an IMAGE item; reports, presentation states and the like are COMPOSITE."""
        return not self.sop_class_uid.startswith(_NOT_IMAGES)

    @property
    def header(self) -> Dataset:
        """The UIDs as evidence needs them."""
        known = Dataset()
        known.SOPClassUID, known.SOPInstanceUID = self.sop_class_uid, self.sop_instance_uid
        known.SeriesInstanceUID, known.StudyInstanceUID = self.series_uid, self.study_uid
        return known


def render_key_objects(
    objects: Sequence[KeyObject],
    header: SourceHeader,
    context: RenderContext,
    *,
    title: codes.Code,
    note: str,
    place: Place,
    models: Sequence[ModelReference],
    role: str = ROLE,
    modifiers: Sequence[codes.Code] = (),
    language: str = "en",
) -> Dataset:
    """Key Object Selection of one or more objects of the study.

    Parameters
    ----------
    objects : sequence of KeyObject
        In the order in which they should be shown.
    title : Code
        Document title of CID 7010, e.g. :data:`dicom_sr.codes.OF_INTEREST` or
        :data:`dicom_sr.codes.REJECTED_FOR_QUALITY_REASONS`.
    note : str
        Key Object Description; empty leaves it out.
    modifiers : sequence of Code
        Document Title Modifiers: CID 7011 where the title rejects for quality, one of CID 7012 for (113013 DCM Best In Set).
    language : str
        RFC 5646 tag of ``note``.

    Raises
    ------
    ValueError
        There is no object to name.
    """
    if not objects:
        raise ValueError("a key object selection names at least one object")
    made = compose(
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        modality="KO",
        role=role,
        place=place,
        header=header,
        context=context,
        models=tuple(models),
    )
    made.ReferencedPerformedProcedureStepSequence = []
    made.ReferencedRequestSequence = referenced_requests(header)
    root = _content(objects, context, title, note, modifiers, language)
    for element in root:
        if element.keyword != "RelationshipType":
            made.add(element)
    made.CurrentRequestedProcedureEvidenceSequence = evidence(root, [item.header for item in objects])
    return made


def _content(
    objects: Sequence[KeyObject],
    context: RenderContext,
    title: codes.Code,
    note: str,
    modifiers: Sequence[codes.Code],
    language: str,
) -> ContainerContentItem:
    modifier = RelationshipTypeValues.HAS_CONCEPT_MOD
    root = ContainerContentItem(name=title, is_content_continuous=False, template_id="2010")
    content = ContentSequence([CodeContentItem(codes.DOCUMENT_TITLE_MODIFIER, code, modifier) for code in modifiers])
    content.append(CodeContentItem(codes.LANGUAGE, codes.language(language), modifier))
    content.extend(observer(context.identity))
    if note:
        content.append(TextContentItem(codes.KEY_OBJECT_DESCRIPTION, note, RelationshipTypeValues.CONTAINS))
    references = [_reference(item) for item in objects]
    content.extend(references)
    root.ContentSequence = content
    for reference in references:
        # TID 2010: "Purpose of Reference shall not be present"; the toolkit asks for a name all the same.
        del reference.ConceptNameCodeSequence
    return root


def _reference(item: KeyObject) -> ContentItem:
    contains, name = RelationshipTypeValues.CONTAINS, codes.SOURCE
    if not item.is_image:
        return CompositeContentItem(name, item.sop_class_uid, item.sop_instance_uid, contains)
    frames = list(item.frame_numbers) or None
    return ImageContentItem(name, item.sop_class_uid, item.sop_instance_uid, frames, relationship_type=contains)
