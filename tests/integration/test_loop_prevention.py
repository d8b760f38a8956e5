"""What comes back: made by this node, made from what it made, or made by others; told apart by devices, not by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_sr.identity import MANUFACTURER, MODEL_NAME
from dicom_sr.uids import model_device_uid
from models.card import EMBEDDED, Card, model_digest
from node import why
from node.archive import index, tables
from node.dicom.storage_scu import send_paths
from node.identity import load_identity
from node.own_equipment import OwnEquipment
from tests.network import Node, instance, running_node

SEG, TEXT_SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.11"


def _contributor(**attributes: Any) -> Dataset:
    item = Dataset()
    item.Manufacturer = "x"
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def _general_equipment(node: Node) -> dict[str, Any]:
    serial = load_identity(node.settings).serial_number
    return {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MODEL_NAME, "DeviceSerialNumber": serial}


@pytest.mark.parametrize("mode", ["instance", "association"])
def test_by_devices_and_not_by_kind(tmp_path: Path, mode: str) -> None:
    with running_node(tmp_path, receive={"mode": mode}) as node:
        own = _general_equipment(node)
        folder = EMBEDDED / "infarct-adc-baseline"
        model = model_device_uid(model_digest(folder, Card.load(folder)))
        workstation = {"Manufacturer": "Workstation", "DeviceSerialNumber": "7"}
        objects = {
            "ours": instance(tmp_path / "in", 1, sop_class=SEG, **own),
            "edited": instance(
                tmp_path / "in",
                2,
                sop_class=SEG,
                **workstation,
                ContributingEquipmentSequence=[_contributor(**own)],
            ),
            "edited-with-model": instance(
                tmp_path / "in", 3, sop_class=SEG, ContributingEquipmentSequence=[_contributor(DeviceUID=model)]
            ),
            "report": instance(tmp_path / "in", 4, sop_class=TEXT_SR, **workstation),
            "other-node": instance(tmp_path / "in", 5, sop_class=SEG, **{**own, "DeviceSerialNumber": "F00"}),
            "image": instance(tmp_path / "in", 6),
        }
        assert send_paths(node.peer(), list(objects.values())).complete
        node.receiver.stop(2.0)
        found = {row.path.rsplit("/", 1)[1].split("-")[0]: row for row in node.rows(tables.instances)}
        of = {name: found[_uid_of(path)] for name, path in objects.items()}
        assert {name for name, row in of.items() if row.ours} == {"ours"}
        assert {name for name, row in of.items() if row.derived} == {"edited", "edited-with-model"}
        assert [row.detail["modality"] for row in node.ledger("instance.derived")] == ["MR", "MR"]
        with node.store.read() as connection:
            study_uid = of["image"].study_uid
            taken = {row.sop_instance_uid for row in index.instances_of_study(connection, study_uid)}
            story = why.tell(connection, study_uid)
        assert taken == {_uid_of(objects[name]) for name in ("report", "other-node", "image")}
        assert "somebody made from one of this node" in story
        assert "made by this node: filed, nothing runs on it" in story


def test_the_embedded_models_are_known(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        own = OwnEquipment.of(node.settings)
        assert len(own.model_uids) == len(list(EMBEDDED.iterdir()))


def _uid_of(path: Path) -> str:
    from node.dicom.storage_scu import read_object_file

    return read_object_file(path).sop_instance_uid
