"""What people do, for the ledger: whoever lets them in calls these; the audit messages follow from the rows."""

from __future__ import annotations

from sqlalchemy import Connection

from node.archive import ledger


def record_authentication(
    connection: Connection, now: float, *, user: str, address: str, succeeded: bool, logout: bool = False
) -> None:
    """Somebody signed on, failed to, or signed off (PS3.15 A.5.3.12).

    Parameters
    ----------
    user : str
        Sign-on name, as given.
    address : str
        Numeric address they came from.
    """
    event = "logout" if logout else "login"
    kind = ledger.Kind.USER_AUTHENTICATED
    ledger.record(connection, now, kind, user=user[:128], address=address, succeeded=succeeded, event=event)


def record_access(connection: Connection, now: float, *, user: str, address: str, study_uid: str) -> None:
    """Somebody looked at a study (PS3.15 A.5.3.6)."""
    kind = ledger.Kind.STUDY_ACCESSED
    ledger.record(connection, now, kind, study_uid=study_uid, user=user[:128], address=address)


def record_query(connection: Connection, now: float, *, peer: str, sop_class_uid: str, query: str) -> None:
    """The node asked a peer (PS3.15 A.5.3.10).

    Parameters
    ----------
    peer : str
        Name in the configuration.
    query : str
        The query's data set, Base64. It holds dates, modalities and UIDs.
    """
    ledger.record(connection, now, ledger.Kind.QUERY_SENT, peer=peer, sop_class=sop_class_uid, query=query)
