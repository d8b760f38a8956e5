"""What the node reads from an instance's header on arrival: identity for the index, and facts for routing."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from node.archive.bounded_stream import header_stream
from node.archive.header_values import PRIVATE_B_VALUES, PRIVATE_BLOCKS, HeaderValues, clean_texts
from node.errors import ObjectRejected
from node.image_tags import LISTED_TAGS, NUMBER_TAGS, TEXT_TAGS

_DIFFUSION_WORDS = frozenset({"DIFFUSION", "ADC", "TRACEW", "TRACE", "DWI", "DIFFUSION_ANISO", "FA"})

# A direction cosine beyond this names a plane; less is oblique (27 degrees).
_ALONG_AXIS = 0.89

_KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "AccessionNumber",
    "Modality",
    "Manufacturer",
    "StationName",
    "StudyDescription",
    "ProcedureCodeSequence",
    "SeriesDescription",
    "ManufacturerModelName",
    "AcquisitionContrast",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "BodyPartExamined",
    "SequenceName",
    "MagneticFieldStrength",
    "ProtocolName",
    "DeviceSerialNumber",
    "DeviceUID",
    "DiffusionBValue",
    "ContributingEquipmentSequence",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "RequestedProcedureCodeSequence",
    "ImageOrientationPatient",
    *TEXT_TAGS,
    *NUMBER_TAGS,
    *LISTED_TAGS,
)
_TAGS: list[Any] = [
    *map(Tag, _KEYWORDS),
    *(Tag(group, block) for group, _, _ in PRIVATE_B_VALUES for block in PRIVATE_BLOCKS),
    *(Tag(group, (block << 8) + element) for group, element, _ in PRIVATE_B_VALUES for block in PRIVATE_BLOCKS),
]

# In implicit VR a value may say that it has four gigabytes. None of these needs more than fits the short form of explicit
# VR; of numbers in text each byte becomes a hundred in memory, and of empty items more.
LONGEST_VALUE_BYTES = 64 * 1024
_LONGEST_SEQUENCE_BYTES = 256 * 1024
_UNDEFINED = 0xFFFFFFFF
_STANDARD = frozenset(int(Tag(keyword)) for keyword in _KEYWORDS)
_SEQUENCES = frozenset(tag for tag in _STANDARD if dictionary_VR(tag) == "SQ")

DEVICE = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "DeviceUID")
"""Keywords of :class:`Device`, in its order."""
CONTRIBUTORS = "ContributingEquipmentSequence"

# What pydicom raises on bytes that are no data set, or values that break their representation.
UNREADABLE = (
    InvalidDicomError,
    BytesLengthException,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    LookupError,
    NotImplementedError,
    ArithmeticError,
    EOFError,
    RecursionError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Device:
    """Equipment that made an instance (PS3.3 C.7.5.1), or contributed to it (C.12.1)."""

    manufacturer: str = ""
    model_name: str = ""
    serial_number: str = ""
    device_uid: str = ""


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """Header of one instance. Text is Unicode whatever the character set; absent or unreadable text is empty.

    Attributes
    ----------
    unreadable : tuple of str
        Keywords whose value could not be read, for the log.
    routing : dict
        Plain JSON that rules match on: ``modality``, ``body_part``, ``study_description``, ``series_description``,
        ``protocol_name``, ``image_type`` (list), ``manufacturer``, ``model_name``, ``station_name``,
        ``procedure_codes`` (list of code values), ``b_value`` (s/mm2 or None), ``number_of_frames``, ``rows``,
        ``columns``, ``field_strength`` (T or None), ``diffusion`` (bool), ``plane`` (``axial``, ``coronal``, ``sagittal``,
        ``oblique`` or empty), ``tags`` (keyword of :mod:`node.image_tags` → list of text, where there is any), ``listed``
        (keyword → text, for DICOMweb).
    device : Device
        General Equipment: who made it.
    contributors : tuple of Device
        Contributing Equipment: what it was made from or with.
    routing_text : str
        ``routing`` as JSON, where whoever read the header has it at hand; else empty.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    accession_number: str = ""
    unreadable: tuple[str, ...] = ()
    routing: dict[str, Any] = field(default_factory=dict)
    device: Device = Device()
    contributors: tuple[Device, ...] = ()
    routing_text: str = field(default="", compare=False, repr=False)


def _behind_header(tag: BaseTag, _vr: str | None, length: int) -> bool:
    """Nothing wanted stands behind group 2001; functional groups, waveforms, overlays and pixels do.

    Asked before a value is read, hence the place to turn away one that is too long to be what it says.
    """
    if length != _UNDEFINED and tag in _STANDARD and length > _longest(tag):
        raise ObjectRejected(f"{tag} has {length} bytes, {_longest(tag)} at most are meaningful there")
    return tag >= 0x52000000


def _longest(tag: BaseTag) -> int:
    return _LONGEST_SEQUENCE_BYTES if tag in _SEQUENCES else LONGEST_VALUE_BYTES


def read_header(source: Path | BinaryIO) -> InstanceHeader:
    """Read the header of a DICOM file; pixels are not touched.

    Raises
    ------
    ObjectRejected
        The bytes are no data set in the transfer syntax that the file meta information names, or far more than any
        meaningful header.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_header(file)
    stream, transfer_syntax_uid = header_stream(source)
    try:
        dataset = read_partial(cast(BinaryIO, stream), stop_when=_behind_header, specific_tags=_TAGS)
    except UNREADABLE as error:
        raise ObjectRejected(f"the data set cannot be read: {type(error).__name__}") from error
    except OSError as error:
        if error.errno is not None:  # the disk, and not pydicom's word for a sequence that ends too early
            raise
        raise ObjectRejected("the data set cannot be read: a sequence ends too early") from error
    syntax = transfer_syntax_uid or (dataset.file_meta.get("TransferSyntaxUID", "") if dataset.file_meta else "")
    return header_from(_DatasetValues(dataset), str(syntax))


def header_from(values: HeaderValues, transfer_syntax_uid: str) -> InstanceHeader:
    """The header that single values make."""
    modality = values.text("Modality")
    return InstanceHeader(
        sop_class_uid=values.uid("SOPClassUID"),
        sop_instance_uid=values.uid("SOPInstanceUID"),
        study_uid=values.uid("StudyInstanceUID"),
        series_uid=values.uid("SeriesInstanceUID"),
        transfer_syntax_uid=transfer_syntax_uid,
        modality=modality,
        patient_id=values.text("PatientID"),
        issuer_of_patient_id=values.text("IssuerOfPatientID"),
        patient_name=values.text("PatientName"),
        patient_birth_date=values.text("PatientBirthDate"),
        accession_number=values.text("AccessionNumber"),
        routing=_routing(values, modality),
        device=Device(*(values.text(keyword) for keyword in DEVICE)),
        contributors=tuple(Device(*item) for item in values.in_items(CONTRIBUTORS, DEVICE)),
        unreadable=tuple(values.unreadable),
    )


def _routing(values: HeaderValues, modality: str) -> dict[str, Any]:
    image_type = values.texts("ImageType")
    b_value, standard = values.b_value()
    # Philips writes a b-value of 0 into every MR image, so 0 alone in a private attribute says nothing.
    diffusion = (
        (b_value is not None and (standard or b_value > 0))
        or not _DIFFUSION_WORDS.isdisjoint(word.upper() for word in image_type)
        or values.text("AcquisitionContrast").upper() == "DIFFUSION"
    )
    return {
        "modality": modality,
        "body_part": values.text("BodyPartExamined"),
        "study_description": values.text("StudyDescription"),
        "series_description": values.text("SeriesDescription"),
        "protocol_name": values.text("ProtocolName"),
        "image_type": image_type,
        "manufacturer": values.text("Manufacturer"),
        "model_name": values.text("ManufacturerModelName"),
        "station_name": values.text("StationName"),
        "procedure_codes": values.codes("ProcedureCodeSequence") + values.codes("RequestedProcedureCodeSequence"),
        "b_value": b_value if diffusion else None,
        "number_of_frames": values.whole("NumberOfFrames") or 1,
        "rows": values.whole("Rows"),
        "columns": values.whole("Columns"),
        "field_strength": values.number("MagneticFieldStrength"),
        "diffusion": diffusion,
        "plane": plane_of(values.numbers("ImageOrientationPatient")),
        "tags": _tags(values),
        "listed": {keyword: text for keyword in LISTED_TAGS if (text := values.text(keyword))},
    }


def _tags(values: HeaderValues) -> dict[str, list[str]]:
    found = {keyword: [text for text in values.texts(keyword) if text] for keyword in TEXT_TAGS}
    for keyword in NUMBER_TAGS:
        number = values.number(keyword)
        found[keyword] = [] if number is None else [f"{number:g}"]
    return {keyword: texts for keyword, texts in found.items() if texts}


def plane_of(orientation: list[float]) -> str:
    """Name of the plane that Image Orientation (Patient) lies in: the axis its normal runs along (PS3.3 C.7.6.2.1.1)."""
    if len(orientation) != 6:
        return ""
    row, column = orientation[:3], orientation[3:]
    normal = [
        abs(row[1] * column[2] - row[2] * column[1]),
        abs(row[2] * column[0] - row[0] * column[2]),
        abs(row[0] * column[1] - row[1] * column[0]),
    ]
    largest = max(normal)
    if largest < _ALONG_AXIS:
        return "oblique" if largest > 0.0 else ""
    return ("sagittal", "coronal", "axial")[normal.index(largest)]


class _DatasetValues(HeaderValues):
    """Values that pydicom has read."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self._dataset = dataset

    def raw(self, key: str | BaseTag) -> Any:
        value = self._raw(key, self._dataset)
        if isinstance(value, Sequence):  # the data set says so of what is text by PS3.6; what is in it may be anything
            self.unreadable.append(str(key))
            return None
        return value

    def codes(self, key: str) -> list[str]:
        items = self._raw(key, self._dataset)
        if not isinstance(items, Sequence):
            return []
        return [
            code
            for item in items
            if isinstance(item, Dataset) and not isinstance(value := self._raw("CodeValue", item), Sequence)
            for code in clean_texts(value)
        ]

    def in_items(self, key: str, keywords: tuple[str, ...]) -> list[list[str]]:
        items = self._raw(key, self._dataset)
        if not isinstance(items, Sequence):
            return []
        return [
            ["\\".join(clean_texts(self._plain(keyword, item))) for keyword in keywords]
            for item in items
            if isinstance(item, Dataset)
        ]

    def _plain(self, key: str, dataset: Dataset) -> Any:
        value = self._raw(key, dataset)
        return None if isinstance(value, Sequence) else value

    def _raw(self, key: str | BaseTag, dataset: Dataset) -> Any:
        try:
            held = dataset.get_item(key)
            # Of an item, or a private one and so perhaps another maker's: not refused as standard ones are.
            if isinstance(held, RawDataElement) and len(held.value or b"") > _longest(Tag(key)):
                self.unreadable.append(str(key))
                return None
            value = dataset[key].value
            # Text and person names are decoded as late as here; what is in a sequence, when it is asked for.
            str(value) if not isinstance(value, bytes | Sequence) else None
        except KeyError:
            return None
        except (*UNREADABLE, OSError):  # OSError is pydicom's word for a sequence that ends too early
            self.unreadable.append(str(key))
            return None
        return None if value is None or value == "" else value
