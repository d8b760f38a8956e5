"""Storage commitment of one destination: from the question to the recorded answer (PS3.4 annex J)."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import select

from node.archive.engine import Store
from node.archive.tables import commitments
from node.delivery import outbox
from node.delivery.outbox import Delivery
from node.dicom.association import ClientAssociation, Proposal
from node.dicom.commitment import (
    COMMITMENT_PROPOSAL,
    COMMITMENT_SOP_CLASS,
    PROCESSING_FAILURE,
    SUCCESS,
    CommitmentAnswer,
    Reference,
    answer_handler,
    request_commitment,
)
from node.errors import CommitmentFailed, PeerError, StoreUnavailable
from node.settings import DestinationSection

logger = logging.getLogger(__name__)

# How long the association of the request is kept for an answer on it. A peer that is known to answer on an
# association of its own is not waited for.
ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# A destination that offers no commitment is asked again after this long: it may have been reconfigured.
_NOT_OFFERED_SECONDS = 3600.0
_REFUSED_SECONDS = 300.0


class Commitment:
    """Asks one destination for commitment and takes its answers on the same association.

    Answers on an association of the destination's own arrive at the receiver.

    Parameters
    ----------
    store : Store
    name : str
        Name of the destination.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self, store: Store, name: str, destination: DestinationSection, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._store = store
        self._name = name
        self._destination = destination
        self._answers = threading.Condition()
        self._arriving: set[str] = set()
        self._answered: set[str] = set()
        self._answers_here: bool | None = None
        self._not_before = 0.0

    @property
    def proposals(self) -> list[Proposal]:
        """Contexts to propose beside those of the objects."""
        return [COMMITMENT_PROPOSAL] if self._destination.commitment else []

    @property
    def handlers(self) -> list[tuple[Any, Any]]:
        """Handlers for the association."""
        return [answer_handler(self._take)] if self._destination.commitment else []

    def due(self, now: float) -> bool:
        """Whether asking makes sense: wanted, and not refused a moment ago."""
        return self._destination.commitment and now >= self._not_before

    def ask(self, association: ClientAssociation, deliveries: Sequence[Delivery], *, repeated: bool = False) -> None:
        """Ask for commitment of stored deliveries over an association that takes the question.

        The answer on this association is waited for briefly.

        The transaction is on record before the request leaves. Whatever goes wrong here, the deliveries stay stored
        and are asked for again when the transaction expires.

        Parameters
        ----------
        repeated : bool
            An earlier request was not answered: whatever was learnt about the way of the answer is forgotten.
        """
        if repeated:
            self._answers_here = None
        now = self._clock()
        if not deliveries:
            return
        transaction_uid = f"2.25.{uuid.uuid4().int}"
        with self._store.write() as connection:
            outbox.open_commitment(
                connection,
                now,
                transaction_uid,
                self._name,
                [delivery.id for delivery in deliveries],
                now + self._destination.commitment_timeout_seconds,
            )
        try:
            request_commitment(
                association,
                transaction_uid,
                [Reference(delivery.sop_class_uid, delivery.sop_instance_uid) for delivery in deliveries],
            )
        except CommitmentFailed as error:
            self._not_before = now + _REFUSED_SECONDS
            logger.warning("%s: %s", self._name, error)
            return
        except PeerError as error:
            logger.warning("%s: %s", self._name, error)
            return
        self._await_answer(association, transaction_uid)

    def offered(self, association: ClientAssociation | None) -> bool:
        """Whether the destination takes the question over this association; None: it accepted no context at all."""
        if association is not None and association.accepts(COMMITMENT_SOP_CLASS):
            return True
        if self._destination.commitment:
            self._not_offered(self._clock())
        return False

    def _await_answer(self, association: ClientAssociation, transaction_uid: str) -> None:
        """Keep the association for an answer on it. Ending it early would cost the proof of a peer that answers here."""
        until = time.monotonic() + (0.0 if self._answers_here is False else ANSWER_SECONDS)
        while association.is_open and time.monotonic() < until:
            with self._answers:
                if self._answers.wait_for(lambda: transaction_uid in self._answered, _LOOK_SECONDS):
                    self._answers_here = True
                    break
            if self._answered_elsewhere(transaction_uid):
                self._answers_here = False
                break
        with self._answers:
            self._answered.discard(transaction_uid)
            self._arriving.discard(transaction_uid)

    def _answered_elsewhere(self, transaction_uid: str) -> bool:
        with self._store.read() as connection:
            statement = select(commitments.c.answered_at).where(commitments.c.transaction_uid == transaction_uid)
            answered = connection.execute(statement).scalar_one_or_none() is not None
        with self._answers:
            return answered and transaction_uid not in self._arriving

    def _take(self, answer: CommitmentAnswer) -> int:
        with self._answers:
            # Before it is recorded: who then sees it recorded knows that it came this way.
            self._arriving.add(answer.transaction_uid)
        try:
            with self._store.write() as connection:
                outcome = outbox.resolve_commitment(
                    connection,
                    self._clock(),
                    answer.transaction_uid,
                    answer.committed,
                    answer.failed,
                    retry_seconds=self._destination.retry_seconds,
                    maximum_attempts=self._destination.maximum_attempts,
                )
        except StoreUnavailable as error:
            logger.error("%s: a commitment answer could not be recorded: %s", self._name, error)
            return PROCESSING_FAILURE
        if not outcome.known:
            logger.warning("%s: a commitment answer to no open request (%s)", self._name, answer.transaction_uid)
        with self._answers:
            self._answered.add(answer.transaction_uid)
            self._answers.notify_all()
        return SUCCESS

    def _not_offered(self, now: float) -> None:
        first, self._not_before = now >= self._not_before, now + _NOT_OFFERED_SECONDS
        if first:
            logger.warning("%s: offers no storage commitment. Set commitment = false if that is meant", self._name)
