"""What every object takes over from the study it belongs to, made fit to be written.

Patient and study attributes must equal the source's, or the PACS files the result under somebody else. But sources are
careless: attributes of Type 2 are missing, dates do not parse, sexes are invented, character sets differ. So this module

* adds missing Type 2 attributes empty, and empties dates, times and sexes that do not parse (never guesses another);
* drops optional attributes that break their value representation, and everything private;
* leaves identity (name, id, accession number, study id) as it stands, only re-encoded as Unicode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import config
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import PersonName, validate_value

from dicom_sr.errors import SourceUnusable
from dicom_sr.moment import Moment, latest, valid_date, valid_time

if TYPE_CHECKING:
    from dicom_sr.series import LoadedStudy, SeriesVolume

IDENTITY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "StudyDescription",
)
"""Copied verbatim, valid or not: a result must be filed where its images are."""

REPAIRED = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
"""Type 2 with a fixed form: emptied where they do not parse."""

TYPE_2 = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName", *REPAIRED)

# Optional attributes of the Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study
# modules (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3). Left out: references to objects that need not exist.
OPTIONAL = (
    *("TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthTime", "QualityControlSubject"),
    *("OtherPatientNames", "OtherPatientIDsSequence", "EthnicGroupCodeSequence", "PatientSpeciesDescription"),
    *("PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization"),
    *("PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName"),
    *("ConsultingPhysicianIdentificationSequence", "ProcedureCodeSequence", "PhysiciansOfRecord"),
    *("PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy"),
    *("PhysiciansReadingStudyIdentificationSequence", "RequestingService", "RequestingServiceCodeSequence"),
    *("ReasonForPerformedProcedureCodeSequence", "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence"),
    *("PatientAge", "PatientSize", "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension"),
    *("MeasuredLateralDimension", "PatientWeight", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus"),
    *("AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit"),
    *("ReasonForVisitCodeSequence", "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID"),
    *("ServiceEpisodeDescription", "IssuerOfServiceEpisodeIDSequence", "PatientState"),
)
_TRIAL = (
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("IssuerOfClinicalTrialProtocolID", "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID"),
    *("ClinicalTrialSubjectID", "IssuerOfClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("IssuerOfClinicalTrialSubjectReadingID", "ClinicalTrialProtocolEthicsCommitteeName"),
    *("ClinicalTrialProtocolEthicsCommitteeApprovalNumber", "ClinicalTrialTimePointID"),
    *("ClinicalTrialTimePointDescription", "IssuerOfClinicalTrialTimePointID"),
)
_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError, NotImplementedError)
_POSITIVE = ("PatientSize", "PatientWeight", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension")
_REQUEST = (
    *("RequestedProcedureID", "RequestedProcedureDescription", "RequestedProcedureCodeSequence"),
    *("ReasonForTheRequestedProcedure", "ReasonForRequestedProcedureCodeSequence"),
)
_SCHEDULED = (*("ScheduledProcedureStepID", "ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"),)


@dataclass(frozen=True, slots=True)
class SourceHeader:
    """Normalised header of the study a result belongs to.

    Attributes
    ----------
    study_uid : str
        Study Instance UID.
    attributes : Dataset
        Patient and study attributes, in Unicode.
    moment : Moment
        Latest date and time found in the sources.
    timezone_offset : str
        ``&ZZXX`` of the sources, empty when they name none.
    modality, body_part : str
        Of the analysed series; ``body_part`` is empty when absent or not a valid CS.
    equipment : Dataset
        Equipment that acquired the analysed series.
    requests : tuple of Dataset
        One item for each requested procedure the sources name: accession number, study, request and step attributes.
    """

    study_uid: str
    attributes: Dataset
    moment: Moment
    timezone_offset: str
    modality: str
    body_part: str
    equipment: Dataset
    requests: tuple[Dataset, ...]


def normalise(study: LoadedStudy, source: SeriesVolume | None) -> SourceHeader:
    """Collect and repair what objects take over from ``study``.

    Parameters
    ----------
    source : SeriesVolume or None
        The analysed series; its header wins where the study's instances disagree. None when nothing was analysed.

    Raises
    ------
    SourceUnusable
        The study holds no instance.
    """
    if not study.headers:
        raise SourceUnusable("the study holds no instance to take patient and study attributes from")
    base = source.header if source is not None else study.headers[0]
    attributes = _patient_and_study(base, study.headers)
    return SourceHeader(
        study_uid=str(study.study_uid),
        attributes=attributes,
        moment=latest(study.headers),
        timezone_offset=_first(_timezone(h) for h in (base, *study.headers)),
        modality=str(base.get("Modality", "") or ""),
        body_part=_valid_code_string(base.get("BodyPartExamined", "")),
        equipment=_pick(base, _EQUIPMENT),
        requests=_requests(base, study, attributes),
    )


_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "InstitutionName", "InstitutionalDepartmentName"),
    *("InstitutionAddress", "StationName", "DeviceSerialNumber", "SoftwareVersions"),
)


def _patient_and_study(base: Dataset, headers: tuple[Dataset, ...]) -> Dataset:
    attributes = Dataset()
    for keyword in (*IDENTITY, *REPAIRED):
        repair = _REPAIRS.get(keyword)
        element = _first_present(keyword, base, headers)
        if element is None:
            if keyword in TYPE_2:
                setattr(attributes, keyword, "")
        elif repair is not None:
            setattr(attributes, keyword, repair(element.value))
        else:
            attributes.add(element)
    for element in _pick(base, OPTIONAL):
        attributes.add(element)
    # Sponsor and protocol are Type 1: without them the whole module is absent.
    if base.get("ClinicalTrialSponsorName") and base.get("ClinicalTrialProtocolID"):
        for element in _pick(base, _TRIAL):
            attributes.add(element)
    return attributes


def _first_present(keyword: str, base: Dataset, headers: tuple[Dataset, ...]) -> DataElement | None:
    """The base's element; another instance's where the base has none or an empty one."""
    empty = None
    for header in (base, *headers):
        element = _readable(header, keyword)
        if element is not None and not element.is_empty:
            return element
        empty = empty or element
    return empty


def _readable(header: Dataset, keyword: str) -> DataElement | None:
    """A clean copy of the element; None where it is absent or its bytes are no value of its VR (a DS of letters)."""
    try:
        return _clean(header[keyword]) if keyword in header else None
    except _UNREADABLE:
        return None


def _sex(value: object) -> str:
    text = str(value or "")
    return text if text in ("M", "F", "O") else ""


_REPAIRS: dict[str, Callable[[object], str]] = {
    "PatientBirthDate": valid_date,
    "PatientSex": _sex,
    "StudyDate": valid_date,
    "StudyTime": valid_time,
}


def _pick(header: Dataset, keywords: Iterable[str]) -> Dataset:
    """Valid ones among the named attributes, cleaned."""
    picked = Dataset()
    for keyword in keywords:
        element = _readable(header, keyword)
        if element is None:
            continue
        if _is_valid(element) and not (keyword in _POSITIVE and not _is_positive(element.value)):
            picked.add(element)
    return picked


def _clean(element: DataElement) -> DataElement:
    """Copy in Unicode, without private or invalid elements below."""
    if element.VR == "SQ":
        items = [_clean_item(entry) for entry in element.value]
        return DataElement(element.tag, "SQ", DicomSequence([entry for entry in items if len(entry)]))
    value = element.value
    if element.VR == "PN":
        # A PersonName read from a file keeps the bytes of its old character set; a new one does not.
        value = [PersonName(str(v)) for v in value] if isinstance(value, MultiValue) else PersonName(str(value or ""))
    return DataElement(element.tag, element.VR, value, validation_mode=config.IGNORE)


def _clean_item(entry: Dataset) -> Dataset:
    known = (keyword_for_tag(tag) for tag in entry.keys())  # noqa: SIM118 (iterating a data set converts values)
    return _pick(entry, (keyword for keyword in known if keyword not in ("", "SpecificCharacterSet")))


def _is_valid(element: DataElement) -> bool:
    """Whether a value obeys its VR (PS3.5 6.2). An empty sequence is of no use and counts as invalid."""
    if element.VR == "SQ":
        return len(element.value) > 0
    if element.VR in ("DA", "TM"):
        check: Callable[[object], str] = valid_date if element.VR == "DA" else valid_time
        return all(not v or bool(check(v)) for v in _values(element.value))
    try:
        for value in _values(element.value):
            validate_value(element.VR, value.original_string if element.VR == "DS" and value else value, config.RAISE)
    except (ValueError, AttributeError):
        return False
    return True


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue) else [value]


def _is_positive(value: Any) -> bool:
    return value is None or value == "" or float(value) > 0


def _valid_code_string(value: object) -> str:
    element = DataElement("BodyPartExamined", "CS", value or "", validation_mode=config.IGNORE)
    return str(element.value or "") if _is_valid(element) and not isinstance(element.value, MultiValue) else ""


def _timezone(header: Dataset) -> str:
    text = str(header.get("TimezoneOffsetFromUTC", "") or "").strip()
    is_offset = len(text) == 5 and text[0] in "+-" and text[1:].isdigit()
    return text if is_offset and int(text[1:3]) <= 14 and int(text[3:]) < 60 else ""


def _first(values: Iterable[str]) -> str:
    return next((value for value in values if value), "")


def _requests(base: Dataset, study: LoadedStudy, attributes: Dataset) -> tuple[Dataset, ...]:
    """Requested procedures of the sources, or the one item the study itself stands for."""
    found: dict[tuple[str, str], Dataset] = {}
    for header in (base, *study.headers):
        for entry in header.get("RequestAttributesSequence", None) or ():
            request = _pick(entry, (*_REQUEST, *_SCHEDULED))
            key = (str(request.get("RequestedProcedureID", "")), str(request.get("ScheduledProcedureStepID", "")))
            if any(key):
                found.setdefault(key, request)
    if not found:
        found["", ""] = _pick(base, _REQUEST)
    for request in found.values():
        request.AccessionNumber = attributes.AccessionNumber
        request.StudyInstanceUID = str(study.study_uid)
    return tuple(found[key] for key in sorted(found))
