"""What a peer does with an object: a marked test object stored, found, committed and read back by query."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_sr.marked_object import PATIENT_NAME, MarkedObject
from node.dicom.association import ClientAssociation, Peer
from node.dicom.commitment import (
    COMMITMENT_PROPOSAL,
    COMMITMENT_SOP_CLASS,
    SUCCESS,
    CommitmentAnswer,
    Reference,
    answer_handler,
    request_commitment,
)
from node.dicom.query import FIND_PROPOSAL, FIND_SOP_CLASS, find, find_instances
from node.dicom.storage_scu import read_object_file, send_object
from node.errors import PeerError

_FIND_SECONDS = 10.0
_LOOK_SECONDS = 0.2


@dataclass(slots=True)
class Trial:
    """What became of the test object; None where it could not be found out, times in seconds.

    Attributes
    ----------
    store_status : int or None
        Status of the C-STORE-RSP.
    sent_in : str
        Transfer syntax it was sent in.
    charset : str
        ``kept``, ``changed`` or empty: what the patient name came back as.
    problem : str
        Why the trial ended early, in the words of the error.
    """

    store_status: int | None = None
    store_note: str = ""
    store_seconds: float | None = None
    sent_in: str = ""
    found: bool | None = None
    found_seconds: float | None = None
    charset: str = ""
    committed: bool | None = None
    commitment_seconds: float | None = None
    commitment_way: str = ""
    problem: str = ""


def try_peer(
    peer: Peer,
    marked: MarkedObject,
    path: Path,
    *,
    transaction_uid: str,
    outcome_elsewhere: Callable[[], str | None],
    wait_seconds: float,
) -> Trial:
    """Send the marked object and see what becomes of it.

    Parameters
    ----------
    path : Path
        The file of ``marked``.
    transaction_uid : str
        For the commitment request; on record where the node's receiver looks, if there is one.
    outcome_elsewhere : callable
        What the answer was that came to the node's receiver; None as long as none came.
    wait_seconds : float
        How long a commitment answer is waited for.
    """
    trial = Trial()
    file = read_object_file(path)
    proposals = [*file.proposals(transcode=True), COMMITMENT_PROPOSAL, FIND_PROPOSAL]
    answers: list[CommitmentAnswer] = []
    came = threading.Event()

    def take(answer: CommitmentAnswer) -> int:
        if answer.transaction_uid == transaction_uid:
            answers.append(answer)
            came.set()
        return SUCCESS

    try:
        with ClientAssociation(peer, proposals, handlers=[answer_handler(take)]) as association:
            started = time.monotonic()
            reply = send_object(association, file, transcode=True)
            trial.store_seconds = time.monotonic() - started
            trial.store_status, trial.store_note = reply.status, reply.note
            trial.sent_in = reply.transfer_syntax_uid or file.transfer_syntax_uid
            if association.accepts(FIND_SOP_CLASS):
                _look(association, marked, trial)
            if association.accepts(COMMITMENT_SOP_CLASS):
                reference = Reference(marked.sop_class_uid, marked.sop_instance_uid)
                started = time.monotonic()
                request_commitment(association, transaction_uid, [reference])
                _await(trial, came, outcome_elsewhere, started + wait_seconds)
                if trial.commitment_way:
                    trial.commitment_seconds = time.monotonic() - started
    except PeerError as error:
        trial.problem = str(error)
    if answers:
        trial.committed = marked.sop_instance_uid in answers[0].committed
    return trial


def _look(association: ClientAssociation, marked: MarkedObject, trial: Trial) -> None:
    """Find the object at instance level; an archive may index it a little later."""
    started = time.monotonic()
    while True:
        found = find_instances(
            association,
            study_uid=marked.study_uid,
            series_uid=marked.series_uid,
            sop_instance_uids=[marked.sop_instance_uid],
        )
        trial.found = bool(found)
        if found or time.monotonic() > started + _FIND_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
    if trial.found:
        trial.found_seconds = time.monotonic() - started
        trial.charset = _charset(association, marked)


def _charset(association: ClientAssociation, marked: MarkedObject) -> str:
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = UID(marked.study_uid)
    query.PatientName = ""
    for match in find(association, query):
        name = match.get("PatientName")
        if name:
            return "kept" if str(name) == PATIENT_NAME else "changed"
    return ""


def _await(trial: Trial, came: threading.Event, outcome_elsewhere: Callable[[], str | None], until: float) -> None:
    while time.monotonic() < until:
        if came.wait(_LOOK_SECONDS):
            trial.commitment_way = "on the same association"
            return
        if outcome := outcome_elsewhere():
            trial.commitment_way = "on an association of its own"
            trial.committed = outcome == "committed"
            return
