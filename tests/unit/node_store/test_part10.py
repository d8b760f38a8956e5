"""File meta information written by hand, read back here and by pydicom."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from node.archive.part10 import dataset_offset, file_meta_bytes, read_file_meta
from node.errors import SpoolDamaged
from tests.store_instances import dataset, file_bytes

SYNTAX = "1.2.840.10008.1.2.1"


@pytest.mark.parametrize("sop", ["1.2.3", "1.2.34"])  # even and odd lengths are padded differently
@pytest.mark.parametrize(("sending", "receiving"), [("SCANNER", "AINODE"), ("A", "B2"), ("", ""), ("X" * 16, "")])
def test_written_and_read(tmp_path: Path, sop: str, sending: str, receiving: str) -> None:
    made = dataset(sop=sop)
    path = tmp_path / "file.dcm"
    path.write_bytes(file_bytes(made, sending_ae_title=sending, receiving_ae_title=receiving).getvalue())
    meta = read_file_meta(path)
    assert (meta.sop_instance_uid, meta.sop_class_uid) == (sop, made.SOPClassUID)
    assert (meta.sending_ae_title, meta.receiving_ae_title) == (sending, receiving)
    assert meta.transfer_syntax_uid == SYNTAX
    assert dataset_offset(path) == meta.dataset_offset
    theirs = pydicom.dcmread(path)
    assert theirs.file_meta.MediaStorageSOPInstanceUID == sop
    assert theirs.file_meta.get("SendingApplicationEntityTitle", "") == sending
    assert theirs.file_meta.get("ReceivingApplicationEntityTitle", "") == receiving
    assert theirs.PatientID == "P1"
    assert path.read_bytes()[meta.dataset_offset :].startswith(b"\x08\x00\x05\x00CS")


def test_a_file_of_another_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "theirs.dcm"
    theirs = dataset()
    theirs.file_meta = pydicom.dataset.FileMetaDataset()
    theirs.file_meta.TransferSyntaxUID = SYNTAX
    theirs.file_meta.SourceApplicationEntityTitle = "CT99"
    theirs.file_meta.PrivateInformationCreatorUID = "1.2.3"
    theirs.file_meta.PrivateInformation = b"x" * 70000
    theirs.save_as(path, enforce_file_format=True)
    assert read_file_meta(path).sending_ae_title == "CT99"


@pytest.mark.parametrize("cut", [0, 50, 131, 143, 150, 300])
def test_a_cut_file_is_damaged(cut: int) -> None:
    whole = file_bytes(dataset(), sending_ae_title="A", receiving_ae_title="B").getvalue()
    with pytest.raises(SpoolDamaged):
        read_file_meta(BytesIO(whole[:cut]))


def test_rubbish_in_the_meta_information_is_damaged() -> None:
    whole = bytearray(file_meta_bytes(sop_class_uid="1.2", sop_instance_uid="1.3", transfer_syntax_uid=SYNTAX))
    whole[150:154] = b"\xff\xff\xff\xff"
    with pytest.raises(SpoolDamaged):
        read_file_meta(BytesIO(bytes(whole)))
