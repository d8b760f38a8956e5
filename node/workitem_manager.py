"""What a performer asks of a manager of workitems, however it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import TracebackType
from typing import Protocol, Self

from pydicom.dataset import Dataset

from node.workitem import StepState


class Reply(StrEnum):
    """What a manager answered to a change."""

    DONE = "done"
    """It is so now, or was already."""
    TAKEN = "taken"
    """Another performer has claimed it."""
    NOT_CLAIMED = "not claimed"
    """It is still SCHEDULED."""
    ENDED = "ended"
    """It is COMPLETED or CANCELED, by whomever."""
    UNKNOWN = "unknown"
    """There is no such workitem."""
    REFUSED = "refused"
    """Anything else; asking again gives the same."""


# PS3.4 CC.2.3.1: who subscribes to this instance hears of every workitem.
EVERY_WORKITEM = "1.2.840.10008.5.1.4.34.5"


class EventType(IntEnum):
    """Event Type ID (0000,1002) of PS3.4 table CC.2.4-1."""

    STATE = 1
    CANCEL_REQUESTED = 2
    PROGRESS = 3
    MANAGER = 4
    ASSIGNED = 5


@dataclass(frozen=True, slots=True)
class WorkitemEvent:
    """What a manager tells of a workitem by itself. ``kind`` may be none of :class:`EventType`."""

    workitem_uid: str
    kind: int


class WorkitemManager(Protocol):
    """A connection to a manager; a context manager. Its methods raise PeerError where nothing is answered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def search(self, limit: int) -> list[Dataset]:
        """Workitems that are SCHEDULED and whose input is READY, at most so many."""
        ...

    def retrieve(self, uid: str) -> Dataset | None:
        """All of a workitem but its Transaction UID; None where there is none."""
        ...

    def change_state(self, uid: str, transaction_uid: str, state: StepState) -> Reply:
        """Claim a workitem (IN PROGRESS) or end it."""
        ...

    def update(self, uid: str, transaction_uid: str, content: Dataset) -> Reply:
        """Modify a claimed workitem."""
        ...
