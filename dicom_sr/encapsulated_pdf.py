"""Encapsulated PDF reports (PS3.3 A.45.1): for archives and record systems that read nothing else."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_sr import codes
from dicom_sr.composite import Place, compose
from dicom_sr.identity import MODEL_NAME
from dicom_sr.illustration import Illustration
from dicom_sr.pdf_report import PdfReport, Section
from dicom_sr.pictures.montage import draw_montage
from dicom_sr.provenance import algorithm_parameters, shortened
from dicom_sr.rendering import RenderContext
from dicom_sr.source_header import SourceHeader
from dicom_sr.structured_report import instance_reference
from dicom_sr.subject_line import day, identifies, printed_name, subject_line
from dicom_sr.tables import tables
from models.results import Draft

TITLE = "AI draft report, not reviewed"
_SERIES_OFFSET = 22
TILES, COLUMNS, TILE = 6, 3, 420
"""The pictures of a report: how many slices, how many in a row, pixels of each square."""


def role_of(language: str) -> str:
    """Role of the report in ``language``."""
    return f"pdf-{language}"


def render_pdf(
    shown: Illustration, draft: Draft, header: SourceHeader, context: RenderContext, *, instance: int
) -> Dataset:
    """Report in one language.

    Parameters
    ----------
    instance : int
        Position among the reports, from 1; they share a series.

    Notes
    -----
    Verification Flag UNVERIFIED (PS3.3 C.24.2). Burned In Annotation is YES: it names the patient and the date.
    """
    made = compose(
        sop_class_uid=str(EncapsulatedPDFStorage),
        modality="DOC",
        role=role_of(draft.language),
        place=Place("pdf", _SERIES_OFFSET, instance, "AI: report (PDF), not reviewed"),
        header=header,
        context=context,
        models=tuple(model for model, _ in shown.origins()),
    )
    content = report_of(shown, draft, header, context).encoded()
    made.ConversionType = "WSD"
    moment = header.moment
    made.AcquisitionDateTime = moment.date_time
    made.BurnedInAnnotation = "YES" if identifies(header.attributes) else "NO"
    made.DocumentTitle = title_of(context)
    made.ConceptNameCodeSequence = [codes.item(codes.DIAGNOSTIC_IMAGING_REPORT)]
    made.VerificationFlag = "UNVERIFIED"
    instances = {f.sop_instance_uid: f.sop_class_uid for f in shown.source.frames}
    made.SourceInstanceSequence = [instance_reference(c, uid) for uid, c in instances.items()]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(content)
    made.EncapsulatedDocument = content + b"\x00" * (len(content) % 2)
    return made


def title_of(context: RenderContext) -> str:
    """Document Title: the destination's own where it has one."""
    return shortened(context.profile.text_title or TITLE)


def report_of(shown: Illustration, draft: Draft, header: SourceHeader, context: RenderContext) -> PdfReport:
    """What the report says."""
    words, slices = shown.words, shown.slices(TILES)
    montage = draw_montage(shown.painter, slices, [shown.name_of(k) for k in slices], columns=COLUMNS, tile=TILE)
    return PdfReport(
        language=draft.language,
        title=shown.result.title,
        warning=words.notice,
        patient=_patient(header, shown),
        sections=(
            Section(words.impression, tuple(draft.impression.splitlines())),
            Section(words.findings, tuple(draft.findings.splitlines())),
            Section(words.measurements, (), None, tuple(tables(shown.result, words))),
            Section(words.pictures, (), montage),
            Section(words.limits, tuple(shown.limits())),
            Section(words.origin, _origin(shown, context)),
        ),
        page=words.page,
        foot=subject_line(header.attributes, words),
        moment=header.moment,
        producer=f"{MODEL_NAME} {context.identity.software_version}",
    )


def _patient(header: SourceHeader, shown: Illustration) -> tuple[tuple[str, str], ...]:
    attributes, words = header.attributes, shown.words
    return (
        (words.patient, printed_name(attributes)),
        (words.patient_id, str(attributes.get("PatientID", "") or "")),
        (words.birth_date, day(attributes.get("PatientBirthDate"))),
        (words.sex, str(attributes.get("PatientSex", "") or "")),
        (words.study, " ".join(v for v in (day(attributes.get("StudyDate")), _description(header)) if v)),
        (words.accession, str(attributes.get("AccessionNumber", "") or "")),
    )


def _description(header: SourceHeader) -> str:
    return str(header.attributes.get("StudyDescription", "") or "")


def _origin(shown: Illustration, context: RenderContext) -> tuple[str, ...]:
    """Everything a recall needs: node, models, weights, settings, images."""
    lines = [f"{MODEL_NAME} {context.identity.software_version}, {context.identity.name}"]
    for model, line in shown.origins():
        lines.append(line)
        lines.append("; ".join(f"{name}={value}" for name, value in algorithm_parameters(model).items()))
    source = shown.source
    number = "" if source.series_number is None else f"{shown.words.series} {source.series_number}, "
    lines.append(f"{shown.words.inputs}: {number}{len(source.frames)}, {source.series_uid}")
    return tuple(lines)
