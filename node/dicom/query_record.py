"""Leaves a row in the ledger for each query about patients, where audit messages are asked for (PS3.15 A.5.3.10)."""

from __future__ import annotations

import base64
import time

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from node.archive.engine import Store
from node.audit.events import record_query
from node.dicom.query import FIND_SOP_CLASS
from node.settings import Settings


def note_query(settings: Settings, store: Store, peer: str, sop_class_uid: str, query: Dataset) -> None:
    """Note that a peer was asked.

    Parameters
    ----------
    peer : str
        Name in the configuration.
    query : Dataset
        The identifier; where one question was asked in parts, the whole of it.
    """
    if not settings.audit.enabled:
        return
    encoded = base64.b64encode(encode(query, is_implicit_vr=False, is_little_endian=True) or b"").decode("ascii")
    with store.write() as connection:
        record_query(connection, time.time(), peer=peer, sop_class_uid=sop_class_uid, query=encoded)


def note_study_query(settings: Settings, store: Store, peer: str) -> None:
    """Note that a peer was asked which studies it has."""
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyDate = ""
    query.StudyInstanceUID = ""
    note_query(settings, store, peer, FIND_SOP_CLASS, query)
