"""Whether an instance was made by this node, or from something it made: by the devices its header names.

The node made what names it as General Equipment (PS3.3 C.7.5.1). What names it, or a model of it, under Contributing
Equipment only (C.12.1) was made by somebody else from a result of this node: a radiologist's edit, for example. What kind
of object it is says nothing: other people write segmentations and reports too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicom_sr.identity import MANUFACTURER, MODEL_NAME, NodeIdentity
from dicom_sr.uids import model_device_uid
from models.card import CARD_FILE, EMBEDDED, Card, model_digest
from models.errors import NodeError
from node.archive.headers import Device, InstanceHeader
from node.identity import load_identity
from node.settings import Settings


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance comes from."""

    made_here: bool = False
    derived: bool = False


@dataclass(frozen=True, slots=True)
class OwnEquipment:
    """The node and its models as devices.

    Attributes
    ----------
    model_uids : frozenset of str
        Device UIDs of the installed models.
    """

    serial_number: str
    device_uid: str
    model_uids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> OwnEquipment:
        """The equipment of a configured node, with the models that are installed now."""
        identity: NodeIdentity = load_identity(settings)
        uids = frozenset(uid for folder in (EMBEDDED, *settings.models.folders) for uid in _model_uids(folder))
        return cls(identity.serial_number, identity.device_uid, uids)

    def origin(self, header: InstanceHeader) -> Origin:
        """Where an instance comes from, as far as its header tells."""
        if self._is_node(header.device):
            return Origin(made_here=True)
        named = any(self._is_node(each) or each.device_uid in self.model_uids for each in header.contributors)
        return Origin(derived=named)

    def _is_node(self, device: Device) -> bool:
        if device.device_uid == self.device_uid:
            return True
        named = (device.manufacturer, device.model_name, device.serial_number)
        return named == (MANUFACTURER, MODEL_NAME, self.serial_number)


def _model_uids(catalogue: Path) -> list[str]:
    found = []
    for card in sorted(catalogue.glob(f"*/{CARD_FILE}")):
        try:
            found.append(model_device_uid(model_digest(card.parent, Card.load(card.parent))))
        except (NodeError, OSError):
            # A model that cannot be read makes nothing; `ainode models list` says what is wrong with it.
            continue
    return found
