"""``ainode verify-peer`` and the node's store: a commitment transaction on record, and the answers kept."""

from __future__ import annotations

import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select

from dicom_sr.marked_object import marked_object
from node.archive import ledger
from node.archive.engine import Store, open_store
from node.archive.tables import commitments
from node.delivery import capabilities, outbox
from node.dicom.association import Peer
from node.dicom.peer_trial import Trial, try_peer
from node.dicom.verify_peer import PeerReport
from node.dicomweb.peer_trial import WebTrial, try_service
from node.dicomweb.web_client import WebPeer
from node.errors import StoreError
from node.identity import load_identity
from node.settings import Settings

# The charset of a destination as the planning of objects knows it.
_CHARSETS = {"kept": "utf-8", "changed": None, "": None}
_WAIT_SECONDS = 10.0


def attempt(settings: Settings, peer: Peer, name: str) -> Trial:
    """Store the node's marked test object at a peer and see what becomes of it.

    A commitment answer on an association of the peer's own comes to the node's receiver, where one runs: the transaction
    is on record before it is asked for.
    """
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    marked = marked_object(load_identity(settings))
    with ExitStack() as stack:
        store = _store(settings, stack)
        if store is not None:
            now = time.time()
            with store.write() as connection:
                outbox.open_commitment(connection, now, transaction_uid, name[:64], [], now + 10 * _WAIT_SECONDS)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "test.dcm"
        path.write_bytes(marked.content)
        return try_peer(
            peer,
            marked,
            path,
            transaction_uid=transaction_uid,
            outcome_elsewhere=lambda: _outcome(store, transaction_uid) if store else None,
            wait_seconds=_WAIT_SECONDS,
        )


def attempt_web(settings: Settings, peer: WebPeer) -> WebTrial:
    """Store the node's marked test object at a DICOMweb service and see what becomes of it."""
    marked = marked_object(load_identity(settings))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.dcm"
        path.write_bytes(marked.content)
        return try_service(peer, marked, path)


def remember(settings: Settings, name: str, report: PeerReport, trial: Trial | None) -> bool:
    """Keep what a destination answered; False where there is no database to keep it in."""
    with ExitStack() as stack:
        store = _store(settings, stack)
        if store is None:
            return False
        now = time.time()
        charset = _CHARSETS[trial.charset] if trial else None
        with store.write() as connection:
            capabilities.store(connection, now, name, storage=report.storage, charset=charset)
            told = asdict(trial) if trial else None
            kind, storage = ledger.Kind.DESTINATION_VERIFIED, dict(report.storage)
            ledger.record(connection, now, kind, destination=name, storage=storage, trial=told)
    return True


def _store(settings: Settings, stack: ExitStack) -> Store | None:
    try:
        store = open_store(settings)
    except StoreError:
        # A node that never ran; what can be found out without it is found out.
        return None
    stack.callback(store.close)
    return store


def _outcome(store: Store, transaction_uid: str) -> str | None:
    with store.read() as connection:
        answered = (commitments.c.transaction_uid == transaction_uid) & commitments.c.answered_at.is_not(None)
        return connection.execute(select(commitments.c.outcome).where(answered)).scalar_one_or_none()
