"""The modules every object begins with: patient, study, series, equipment, SOP common."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_sr.character_set import UTF_8
from dicom_sr.moment import UNKNOWN
from dicom_sr.provenance import add_equipment, contributing_equipment, shortened
from dicom_sr.rendering import NOTES, RenderContext, kind_of
from dicom_sr.source_header import SourceHeader
from dicom_sr.uids import result_uid
from models.results import ModelReference

QUALIFICATION = "RESEARCH"
"""Content Qualification (0018,9004): nothing here is approved for diagnosis until a site's regulator says so."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the study an object goes.

    Attributes
    ----------
    series : str
        Name of its series within the set; objects of one name share a series.
    offset : int
        Added to the context's series number base.
    instance : int
        Instance Number in the series, from 1.
    description : str
        Series Description.
    """

    series: str
    offset: int
    instance: int
    description: str


def compose(
    *,
    sop_class_uid: str,
    modality: str,
    role: str,
    place: Place,
    header: SourceHeader,
    context: RenderContext,
    models: tuple[ModelReference, ...],
) -> Dataset:
    """Data set with every module that does not depend on the kind of object.

    No attribute comes from a clock or a random generator: dates are the sources', UIDs follow from the work key.

    Parameters
    ----------
    role : str
        Role of the object in its set; its SOP Instance UID follows from it.
    models : tuple of ModelReference
        Models that contributed to this object.
    """
    made = Dataset()
    made.update(deepcopy(header.attributes))
    made.SpecificCharacterSet = UTF_8  # until the whole object is there to be fitted to its destination
    made.SOPClassUID = sop_class_uid
    made.SOPInstanceUID = result_uid(context.key, role)
    made.InstanceCreatorUID = context.identity.device_uid
    made.StudyInstanceUID = header.study_uid
    made.Modality = modality
    made.SeriesInstanceUID = result_uid(context.key, f"{place.series}/series")
    made.SeriesNumber = context.profile.series_number_base + place.offset
    made.SeriesDescription = shortened(_description(role, place, context))
    made.InstanceNumber = place.instance
    made.ContentQualification = QUALIFICATION
    moment = header.moment
    # Content Date and Time are Type 1 in all our IODs; the series' own are Type 3 and may stay away.
    made.ContentDate = moment.date or UNKNOWN.date
    made.ContentTime = moment.time or UNKNOWN.time
    if moment.date:
        made.SeriesDate, made.SeriesTime = moment.date, moment.time
    if zone := header.timezone_offset or context.identity.timezone_offset:
        made.TimezoneOffsetFromUTC = zone
    add_equipment(made, context.identity)
    made.ContributingEquipmentSequence = contributing_equipment(
        acquisition=header.equipment, modality=header.modality, models=models, moment=moment
    )
    return made


def _description(role: str, place: Place, context: RenderContext) -> str:
    """Ours, or the destination's own for results of that kind; what takes something back keeps its words."""
    if role in NOTES:
        return place.description
    return dict(context.profile.series_descriptions).get(kind_of(role), place.description)
