"""A run that answers a question: where the question stands, which images go along, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_sr.errors import RoleMissing
from dicom_sr.identity import MANUFACTURER
from dicom_sr.roles import fill_roles
from dicom_sr.series import LoadedStudy, SeriesVolume
from models import questions
from models.questions import Question
from models.remote_errors import NoQuestion
from node.jobs.specification import JobSpec

if TYPE_CHECKING:
    from models.model import Model

_TEXT_SR = frozenset(
    {"1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33"}
)
"""Basic Text, Enhanced and Comprehensive SR."""


def question_of(spec: JobSpec, study: LoadedStudy) -> Question:
    """The question of a study: in the order first, then in text SR, the latest document first.

    Raises
    ------
    NoQuestion
        Nobody asks anything where the rule looks.
    """
    if spec.question in ("order", "any"):
        for reason in _reasons(spec, study):
            if found := questions.find(reason, "order"):
                return found
    if spec.question in ("report", "any"):
        for text in _texts(study):
            if found := questions.find(text, "report"):
                return found
    raise NoQuestion(f"no question was found where the rule looks ({spec.question})")


def images_for(model: Model, study: LoadedStudy) -> dict[str, SeriesVolume]:
    """Volumes a question is about: the card's inputs; where it names none, the largest volume.

    Raises
    ------
    SeriesRejected
        There is no image to look at.
    """
    if model.card.inputs:
        return fill_roles(study, model.card.inputs)
    if not study.volumes:
        if study.rejected:
            raise study.rejected[0].error
        raise RoleMissing("the study has no image that a question could be about")
    return {"image": max(study.volumes, key=lambda each: len(each.frames))}


def _reasons(spec: JobSpec, study: LoadedStudy) -> Iterator[str]:
    """Reasons for the examination: of the order that agrees with the images, then as the images repeat it."""
    yield from (order.reason for order in spec.procedures)
    for header in study.headers:
        yield str(header.get("ReasonForTheRequestedProcedure", "") or "")
        for request in header.get("RequestAttributesSequence", ()) or ():
            yield str(request.get("ReasonForTheRequestedProcedure", "") or "")


def _texts(study: LoadedStudy) -> Iterator[str]:
    """Texts of SR documents of others, the latest first: what this node wrote asks nothing."""
    documents = [
        header
        for header in study.headers
        if str(header.get("SOPClassUID", "")) in _TEXT_SR and str(header.get("Manufacturer", "")) != MANUFACTURER
    ]
    for document in sorted(documents, key=_written, reverse=True):
        yield "\n".join(_text_values(document))


def _written(document: Dataset) -> str:
    return f"{document.get('ContentDate', '')}{document.get('ContentTime', '')}"


def _text_values(item: Dataset) -> Iterator[str]:
    if str(item.get("ValueType", "")) == "TEXT":
        yield str(item.get("TextValue", ""))
    for each in item.get("ContentSequence", ()) or ():
        yield from _text_values(each)
