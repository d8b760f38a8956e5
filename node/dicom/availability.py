"""Instance Availability Notification (PS3.4 annex R): tells another application that results can be retrieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID
from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.errors import NoPresentationContext, NotificationRefused, PeerBusy
from node.settings import AvailabilitySection

IAN_SOP_CLASS = str(InstanceAvailabilityNotification)
_PROPOSAL = Proposal(IAN_SOP_CLASS)
ONLINE = "ONLINE"
# PS3.7 10.1.5.1.6. A notification that is there already is our own earlier attempt.
# Attribute warnings (PS3.7 annex C.4): created all the same.
_SUCCESS, _DUPLICATE, _WARNINGS = 0x0000, 0x0111, (0x0107, 0x0116)
_PASSING = frozenset({0x0110, 0x0213})


def peer_told(section: AvailabilitySection, calling_ae_title: str) -> Peer:
    """Who is told."""
    return Peer(
        ae_title=section.ae_title,
        host=section.host,
        port=section.port,
        calling_ae_title=calling_ae_title,
        tls=section.tls,
    )


def notify_availability(peer: Peer, sop_instance_uid: str, content: Mapping[str, Any]) -> str:
    """Tell a peer (N-CREATE), and return its status in words.

    Parameters
    ----------
    sop_instance_uid : str
        Of the notification itself; the same in each attempt.
    content : mapping
        ``study_uid``, ``retrieve_ae_title``, and ``objects``: mappings with ``series_uid``, ``sop_class_uid`` and
        ``sop_instance_uid``.

    Raises
    ------
    PeerUnreachable, PeerNotTrusted
        No association.
    NoPresentationContext
        The peer takes no such notifications.
    NoResponse
        No status came back.
    PeerBusy, NotificationRefused
        Refused for the moment, or for good.
    """
    with ClientAssociation(peer, [_PROPOSAL]) as association:
        if not association.accepts(IAN_SOP_CLASS):
            raise NoPresentationContext(f"{peer}: takes no Instance Availability Notifications")
        with association.exchange() as connection:
            response, _ = connection.send_n_create(
                information(content), InstanceAvailabilityNotification, UID(sop_instance_uid)
            )
        status = association.status_of(response, "the Instance Availability Notification")
    if status in (_SUCCESS, _DUPLICATE, *_WARNINGS):
        return f"0x{status:04X}"
    if status in _PASSING:
        raise PeerBusy(f"{peer}: cannot take the notification now (0x{status:04X})", status=status)
    raise NotificationRefused(f"{peer}: refused the notification (0x{status:04X})", status=status)


def information(content: Mapping[str, Any]) -> Dataset:
    """Attributes of the notification (PS3.4 table R.3.2-1)."""
    dataset = Dataset()
    dataset.ReferencedPerformedProcedureStepSequence = DicomSequence([])
    dataset.StudyInstanceUID = UID(content["study_uid"])
    by_series: dict[str, list[Mapping[str, str]]] = {}
    for each in content["objects"]:
        by_series.setdefault(each["series_uid"], []).append(each)
    dataset.ReferencedSeriesSequence = DicomSequence(
        _series(uid, objects, content["retrieve_ae_title"]) for uid, objects in by_series.items()
    )
    return dataset


def _series(series_uid: str, objects: Sequence[Mapping[str, str]], retrieve_ae_title: str) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = UID(series_uid)
    items = []
    for each in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = UID(each["sop_class_uid"])
        item.ReferencedSOPInstanceUID = UID(each["sop_instance_uid"])
        item.InstanceAvailability = ONLINE
        item.RetrieveAETitle = retrieve_ae_title
        items.append(item)
    series.ReferencedSOPSequence = DicomSequence(items)
    return series
