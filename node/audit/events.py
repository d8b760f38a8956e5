"""What the node does at others, for the ledger; the audit messages follow from the rows."""

from __future__ import annotations

from sqlalchemy import Connection

from node.archive import ledger


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
