"""Every coded term the objects use, once, and the dictionary their meanings are checked against.

Terms come from PS3.16; a comment names the context group where one governs the choice.
"""

from __future__ import annotations

import re
from functools import cache

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from models.results import CodedTerm, Laterality

# Document titles and headings
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
DIAGNOSTIC_IMAGING_REPORT = Code("18748-4", "LN", "Diagnostic Imaging Report")  # in every edition of CID 7000
FINDINGS_HEADING = Code("59776-5", "LN", "Findings")  # CID 7001
IMPRESSIONS_HEADING = Code("19005-8", "LN", "Impressions")  # CID 7001
OF_INTEREST = Code("113000", "DCM", "Of Interest")  # this and the next four: CID 7010
REJECTED_FOR_QUALITY_REASONS = Code("113001", "DCM", "Rejected for Quality Reasons")
REJECTED_FOR_PATIENT_SAFETY_REASONS = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
INCORRECT_MODALITY_WORKLIST_ENTRY = Code("113038", "DCM", "Incorrect Modality Worklist Entry")
DATA_RETENTION_POLICY_EXPIRED = Code("113039", "DCM", "Data Retention Policy Expired")
SOFTWARE_FAILURE = Code("111218", "DCM", "Software failure")  # CID 7011
OTHER_FAILURE = Code("111220", "DCM", "Other failure")  # CID 7011
MEASUREMENT_GROUP = Code("125007", "DCM", "Measurement Group")

# Concept names
LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
DOCUMENT_TITLE_MODIFIER = Code("113011", "DCM", "Document Title Modifier")
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
SOURCE = Code("260753009", "SCT", "Source")
FINDING = Code("121071", "DCM", "Finding")
IMPRESSION = Code("121073", "DCM", "Impression")
BEST_ILLUSTRATION = Code("121080", "DCM", "Best illustration of finding")
PRESENCE = Code("121052", "DCM", "Presence of property")
TRACKING_IDENTIFIER = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID = Code("112040", "DCM", "Tracking Unique Identifier")
DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
REFERENCED_SEGMENT = Code("121191", "DCM", "Referenced Segment")
SOURCE_IMAGE_FOR_SEGMENTATION = Code("121233", "DCM", "Source image for segmentation")

QUALITATIVE_DIFFERENCE = Code("111049", "DCM", "Qualitative Difference")
DIFFERENCE_IN_SIZE = Code("442714003", "SCT", "Difference in size")

# Values
NEW_FINDING = Code("129721008", "SCT", "New finding")
INCREASE_IN_SIZE = Code("15454001", "SCT", "Increase in size")  # this and the next two: CID 6134
DECREASE_IN_SIZE = Code("19776001", "SCT", "Decrease in size")
NO_SIGNIFICANT_CHANGE = Code("129723006", "SCT", "No significant changes in the finding")
PERCENT = Code("%", "UCUM", "Percent")
RAN_WITHOUT_FINDINGS = Code(
    "111241", "DCM", "All algorithms succeeded; without findings"
)  # this and the next three, and DID_NOT_RUN: CID 6047
RAN_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
SOME_RAN_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
SOME_RAN_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
REPLACED_REPORT = Code("121360", "DCM", "Replaced report")
DID_NOT_RUN = Code("111245", "DCM", "No algorithms succeeded; without findings")
PRESENT = Code("52101004", "SCT", "Present")  # CID 240
QUANTITY = Code("246205007", "SCT", "Quantity")
ABSENT = Code("272519000", "SCT", "Absent")  # CID 240
PROBABILITY = Code("122157", "DCM", "Probability")
UPPER_UNCERTAINTY = Code("371886008", "SCT", "+, range of upper measurement uncertainty")  # TID 310
LOWER_UNCERTAINTY = Code("371885007", "SCT", "-, range of lower measurement uncertainty")  # TID 310
NO_UNITS = Code("1", "UCUM", "no units")
VOLUME = Code("118565006", "SCT", "Volume")
MILLILITRE = Code("mL", "UCUM", "mL")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")  # CID 7474
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162

# Purposes and derivations
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")  # CID 7005
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
BACKGROUND = Code("125040", "DCM", "Background")  # the rest of a label map, CID 7151
CALCULATION = Code("112187", "DCM", "Unspecified method of calculation")
SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")  # CID 7203
SOURCE_FOR_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202

# CID 7464: statistics go into Derivation (121401 DCM) of TID 300, not into Measurement Method.
DERIVATIONS = frozenset({"373098007", "373099004", "255605001", "56851009", "386136009"})

_PROCEDURES = {  # CID 100: the imaging procedure that is reported on, never the algorithm
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")

_SIDES = {
    Laterality.LEFT: Code("7771000", "SCT", "Left"),
    Laterality.RIGHT: Code("24028007", "SCT", "Right"),
    Laterality.BILATERAL: Code("51440002", "SCT", "Bilateral"),
}

_LANGUAGES = {"en": "English", "ja": "Japanese"}

# Terms that are right but absent from pydicom's dictionary.
_ADDITIONS = {
    ("SCT", "55641003"): "infarct",
    ("UCUM", "mL"): "ml",
    ("UMLS", "C2348792"): "time point",
    ("RFC5646", "en"): "english",
    ("RFC5646", "en-US"): "english (united states)",
    ("RFC5646", "ja"): "japanese",
}

_SEMANTIC_TAG = re.compile(
    r"\s*\((finding|attribute|body structure|disorder|property|procedure|qualifier value|observable entity"
    r"|morphologic abnormality|substance|event)\)"
)


def from_term(term: CodedTerm) -> Code:
    """The same concept as pydicom and highdicom name it."""
    return Code(term.value, term.scheme, term.meaning)


def item(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 8.8, basic coded entry attributes)."""
    entry = Dataset()
    entry.CodeValue = code.value
    entry.CodingSchemeDesignator = code.scheme_designator
    entry.CodeMeaning = code.meaning
    return entry


def procedure_reported(modality: str) -> Code:
    """Imaging procedure of CID 100 for a modality (PS3.3 C.7.3.1.1.1); the general term where none fits."""
    return _PROCEDURES.get(modality, _ANY_PROCEDURE)


def side(laterality: Laterality) -> Code | None:
    """Coded side (CID 244), None where the finding has none or it is not known."""
    return _SIDES.get(laterality)


def language(tag: str) -> Code:
    """Language of TID 1204 for an RFC 5646 tag."""
    return Code(tag, "RFC5646", _LANGUAGES.get(tag, tag))


def _plain(meaning: str) -> str:
    return _SEMANTIC_TAG.sub("", meaning.replace("\u200b", "")).strip().lower()


@cache
def _dictionary() -> dict[tuple[str, str], frozenset[str]]:
    from pydicom.sr._concepts_dict import concepts

    table: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = dict(concepts)  # type: ignore[arg-type]
    meanings: dict[tuple[str, str], set[str]] = {}
    for scheme, keywords in table.items():
        for entries in keywords.values():
            for value, (meaning, _) in entries.items():
                meanings.setdefault((scheme, value), set()).add(_plain(meaning))
    for key, meaning in _ADDITIONS.items():
        meanings.setdefault(key, set()).add(meaning)
    return {key: frozenset(words) for key, words in meanings.items()}


def known_meanings(scheme: str, value: str) -> frozenset[str]:
    """Meanings the dictionary has for a code, lower case and without SNOMED's semantic tags; empty when unknown."""
    return _dictionary().get((scheme, value), frozenset())


def meaning_is_right(code: Dataset) -> bool:
    """Whether a code item says what its code means (PS3.16 by way of pydicom's dictionary)."""
    meanings = known_meanings(str(code.get("CodingSchemeDesignator", "")), str(code.get("CodeValue", "")))
    return _plain(str(code.get("CodeMeaning", ""))) in meanings
