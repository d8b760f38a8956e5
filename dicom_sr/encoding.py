"""Objects as bytes: Part 10, Little Endian, always the same bytes for the same data set."""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_sr.explicit_vr import encoded
from dicom_sr.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def encode(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Whole file of an object (PS3.10 7.1); its pixels are in ``transfer_syntax`` already.

    The meta information names this implementation, not the toolkit's, so that an update of the toolkit does not change
    bytes that have to stay the same.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.preamble = b"\x00" * 128
    buffer = BytesIO()
    tail = [] if transfer_syntax == ImplicitVRLittleEndian else _tail(dataset)
    dcmwrite(buffer, _without(dataset, tail) if tail else dataset, enforce_file_format=True)
    for element in tail:
        for part in encoded(element):
            buffer.write(part)
    return buffer.getvalue()


def _tail(dataset: Dataset) -> list[RawDataElement]:
    """The last elements, as far as they are bytes already: pydicom would take them apart before it writes them."""
    tail: list[RawDataElement] = []
    for tag in sorted(dataset.keys(), reverse=True):
        element = dataset.get_item(tag)
        if not isinstance(element, RawDataElement):
            break
        tail.insert(0, element)
    return tail


def _without(dataset: Dataset, tail: list[RawDataElement]) -> Dataset:
    head = Dataset()
    last = {element.tag for element in tail}
    head.update({tag: dataset.get_item(tag) for tag in dataset.keys() if tag not in last})  # noqa: SIM118 (items convert)
    head.file_meta, head.preamble = dataset.file_meta, dataset.preamble
    return head
