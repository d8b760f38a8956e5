"""`ainode send` with files as they lie about: file meta information that was not changed with the data set."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from node.archive.part10 import file_meta_bytes
from node.archive.spool import dataset_digest
from node.dicom.storage_scu import Sent, send_paths
from tests.network import MR, instance, running_node


def test_renamed_instances_are_sent_under_the_name_of_their_data_set(tmp_path: Path) -> None:
    original = instance(tmp_path / "in")
    files = []
    for number, stale in enumerate(("1.2.3.4", "")):
        renamed = tmp_path / "renamed" / f"{number}.dcm"
        renamed.parent.mkdir(exist_ok=True)
        meta = file_meta_bytes(sop_class_uid=MR, sop_instance_uid=stale, transfer_syntax_uid=ExplicitVRLittleEndian)
        dataset = dcmread(original)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
        plain = tmp_path / f"plain-{number}.dcm"
        dataset.save_as(plain)
        head = int.from_bytes(plain.read_bytes()[140:144], "little") + 144
        renamed.write_bytes(meta + plain.read_bytes()[head:])
        files.append(renamed)
    with running_node(tmp_path) as node:
        summary = send_paths(node.peer(), files)
        assert [report.outcome for report in summary.reports] == [Sent.STORED] * 2, summary.reports
        assert {dataset_digest(path) for path in node.files()} == {dataset_digest(path) for path in files}
