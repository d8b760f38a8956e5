"""Query/Retrieve C-GET and C-MOVE: having a peer send what it has (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from node.dicom.association import ClientAssociation, Peer, Proposal
from node.errors import NoPresentationContext, PeerBusy

GET_SOP_CLASS = str(StudyRootQueryRetrieveInformationModelGet)
MOVE_SOP_CLASS = str(StudyRootQueryRetrieveInformationModelMove)
_PENDING = frozenset({0xFF00, 0xFF01})
STORED_SYNTAXES = tuple(
    str(uid)
    for uid in (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGLosslessSV1,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
        JPEGBaseline8Bit,
    )
)
# What earlier studies consist of, as far as anything here looks at them; the last part of 1.2.840.10008.5.1.4.1.1.
STORED_CLASSES = (
    *("1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "6.1", "3.1"),
    *("7", "7.1", "7.2", "7.3", "7.4", "12.1", "12.2", "13.1.3", "20", "30", "128", "130", "66", "66.4", "66.7"),
    *("88.11", "88.22", "88.33", "88.34", "88.59", "11.1", "481.3"),
)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """How a retrieval ended: sub-operations by outcome (PS3.7 9.1.3, 9.1.4)."""

    completed: int
    failed: int
    warnings: int


def move_study(peer: Peer, study_uid: str, *, to_ae_title: str, series_uid: str = "", seconds: float) -> Retrieved:
    """Have a peer send a study, or one series of it, to an application entity it knows.

    Raises
    ------
    NoPresentationContext
        The peer offers no C-MOVE.
    PeerBusy
        It refused; 0xA801 means that it does not know ``to_ae_title``.
    NoResponse
        It was not answered to the end.
    """
    with (
        ClientAssociation(peer, [Proposal(MOVE_SOP_CLASS)]) as association,
        association.exchange(additional_seconds=seconds) as connection,
    ):
        responses = connection.send_c_move(_identifier(study_uid, series_uid), to_ae_title, UID(MOVE_SOP_CLASS))
        return _outcome(association, responses, "C-MOVE")


def get_study(
    peer: Peer, study_uid: str, take: Callable[[evt.Event], int], *, series_uid: str = "", seconds: float
) -> Retrieved:
    """Fetch a study, or one series of it, over the association itself: the peer needs to know nobody.

    Parameters
    ----------
    take : callable
        Stores one instance (``evt.EVT_C_STORE``) and returns its DIMSE status.

    Raises
    ------
    NoPresentationContext
        The peer offers no C-GET.
    PeerBusy, NoResponse
        As :func:`move_study`.
    """
    stored = [Proposal(f"1.2.840.10008.5.1.4.1.1.{tail}", STORED_SYNTAXES, as_provider=True) for tail in STORED_CLASSES]
    handlers = [(evt.EVT_C_STORE, take)]
    with ClientAssociation(peer, [Proposal(GET_SOP_CLASS), *stored], handlers=handlers) as association:
        if not association.accepts(GET_SOP_CLASS):
            raise NoPresentationContext(f"{peer}: offers no C-GET", sop_class_uid=GET_SOP_CLASS)
        with association.exchange(additional_seconds=seconds) as connection:
            responses = connection.send_c_get(_identifier(study_uid, series_uid), UID(GET_SOP_CLASS))
            return _outcome(association, responses, "C-GET")


def _identifier(study_uid: str, series_uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES" if series_uid else "STUDY"
    identifier.StudyInstanceUID = UID(study_uid)
    if series_uid:
        identifier.SeriesInstanceUID = UID(series_uid)
    return identifier


def _outcome(association: ClientAssociation, responses: Any, what: str) -> Retrieved:
    last = Dataset()
    for response, _ in responses:
        status = association.status_of(response, what)
        last = response
        # 0xB000: some sub-operations failed; how many stands beside.
        if status not in _PENDING and status not in (0x0000, 0xB000):
            raise PeerBusy(f"{association.peer}: {what} failed (0x{status:04X})", status=status)
    return Retrieved(
        completed=int(last.get("NumberOfCompletedSuboperations") or 0),
        failed=int(last.get("NumberOfFailedSuboperations") or 0),
        warnings=int(last.get("NumberOfWarningSuboperations") or 0),
    )
