"""Query/Retrieve C-FIND at instance level: what a peer says it has (PS3.4 C.4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from node.dicom.association import ClientAssociation, Proposal
from node.errors import NoPresentationContext, PeerBusy

FIND_SOP_CLASS = str(StudyRootQueryRetrieveInformationModelFind)
FIND_PROPOSAL = Proposal(FIND_SOP_CLASS)
_PENDING = frozenset({0xFF00, 0xFF01})
# List-of-UID matching is required of every provider, but long lists break some.
_UIDS_PER_QUERY = 50


def find_instances(
    association: ClientAssociation, *, study_uid: str, series_uid: str, sop_instance_uids: Sequence[str]
) -> frozenset[str]:
    """SOP Instance UIDs, of those asked for, that the peer lists in this series.

    Raises
    ------
    NoPresentationContext
        The peer offers no study-root C-FIND.
    PeerBusy
        The query failed at the peer.
    NoResponse
        It was not answered to the end.
    """
    found: set[str] = set()
    for start in range(0, len(sop_instance_uids), _UIDS_PER_QUERY):
        asked = list(sop_instance_uids[start : start + _UIDS_PER_QUERY])
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID = UID(study_uid)
        query.SeriesInstanceUID = UID(series_uid)
        query.SOPInstanceUID = [UID(uid) for uid in asked] if len(asked) > 1 else UID(asked[0])
        found.update(str(match.get("SOPInstanceUID", "")) for match in find(association, query))
    return frozenset(found.intersection(sop_instance_uids))


def find(association: ClientAssociation, query: Dataset) -> list[Dataset]:
    """Identifiers of every match, for a study-root query.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`find_instances`.
    """
    if not association.accepts(FIND_SOP_CLASS):
        raise NoPresentationContext(f"{association.peer}: offers no study-root query", sop_class_uid=FIND_SOP_CLASS)
    matches: list[Dataset] = []
    with association.exchange() as connection:
        for response, identifier in connection.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
            status = association.status_of(response, "C-FIND")
            if status in _PENDING:
                if identifier is not None:
                    matches.append(identifier)
            elif status != 0x0000:
                raise PeerBusy(f"{association.peer}: the query failed (0x{status:04X})", status=status)
    return matches
