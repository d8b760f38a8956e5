"""Query/Retrieve C-FIND: what a peer says it has (PS3.4 C.4.1)."""

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
_CANCELLED = 0xFE00
_MESSAGE_ID = 1
# More than any archive has of a patient, a study or a night.
_MOST_MATCHES = 100_000
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


def count_series(association: ClientAssociation, study_uid: str) -> dict[str, tuple[str, int]]:
    """Modality of each series of a study, and how many instances of it the peer has.

    Number of Series Related Instances (0020,1209) is optional; a peer that leaves it out is asked for the instances.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`find_instances`.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = UID(study_uid)
    query.SeriesInstanceUID = ""
    query.Modality = ""
    query.NumberOfSeriesRelatedInstances = None
    counts: dict[str, tuple[str, int]] = {}
    for found in find(association, query):
        uid = str(found.get("SeriesInstanceUID", ""))
        number = found.get("NumberOfSeriesRelatedInstances")
        if uid:
            count = int(number) if number not in (None, "") else _count_instances(association, study_uid, uid)
            counts[uid] = (str(found.get("Modality") or ""), count)
    return counts


def modalities_of(association: ClientAssociation, study_uid: str) -> tuple[str, ...]:
    """Modalities of a study's series, for peers that leave out Modalities in Study (0008,0061), which is optional.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`find_instances`.
    """
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID = UID(study_uid)
    query.SeriesInstanceUID = ""
    query.Modality = ""
    return tuple(sorted({str(found.Modality) for found in find(association, query) if found.get("Modality")}))


def _count_instances(association: ClientAssociation, study_uid: str, series_uid: str) -> int:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = UID(study_uid)
    query.SeriesInstanceUID = UID(series_uid)
    query.SOPInstanceUID = ""
    return len({str(found.get("SOPInstanceUID", "")) for found in find(association, query)})


def find(
    association: ClientAssociation, query: Dataset, *, model: str = FIND_SOP_CLASS, limit: int | None = None
) -> list[Dataset]:
    """Identifiers of every match.

    Parameters
    ----------
    model : str
        SOP class of the query, study root where none is named.
    limit : int or None
        At so many matches the query is cancelled (C-CANCEL, PS3.7 9.3.2.3); one match more than the limit is returned
        where the peer had more.

    Raises
    ------
    NoPresentationContext, PeerBusy, NoResponse
        As :func:`find_instances`; PeerBusy also where there is no end to the matches.
    """
    if not association.accepts(model):
        raise NoPresentationContext(f"{association.peer}: offers no {UID(model).name}", sop_class_uid=model)
    matches: list[Dataset] = []
    cancelled = False
    with association.exchange() as connection:
        for response, identifier in connection.send_c_find(query, UID(model), msg_id=_MESSAGE_ID):
            status = association.status_of(response, "C-FIND")
            if status in _PENDING:
                if identifier is not None and not cancelled:
                    matches.append(identifier)
                if limit is not None and len(matches) > limit and not cancelled:
                    connection.send_c_cancel(_MESSAGE_ID, query_model=UID(model))
                    cancelled = True
                if len(matches) > _MOST_MATCHES:
                    # By an end of the association: whoever sends so many may not hear a C-CANCEL either.
                    connection.abort()
                    raise PeerBusy(f"{association.peer}: more than {_MOST_MATCHES} matches to one query")
            elif status != 0x0000 and not (cancelled and status == _CANCELLED):
                raise PeerBusy(f"{association.peer}: the query failed (0x{status:04X})", status=status)
    return matches
