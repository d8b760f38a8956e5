"""When a study has arrived: a pure fold over events, with the evidence for each decision.

Nothing here reads a clock or a database. Times are readings of the monotonic clock of one boot, so that setting the
wall clock can neither fire nor delay a decision; a reading of another boot cannot be compared and starts the waits
anew. Replaying the events gives the state: ``state = fold(step, events)``; what was learnt and used is an event, too.
"""

from node.arrival.events import (
    AssociationEnded,
    Corrected,
    Event,
    InstanceStored,
    Instant,
    Listed,
    ListedSeries,
    OrderKnown,
    PerformedStep,
    Released,
    RhythmLearnt,
    Source,
    StepStatus,
    Tick,
)
from node.arrival.fold import Decision, due_in_seconds, step
from node.arrival.state import Phase, State

__all__ = [
    "AssociationEnded",
    "Corrected",
    "Decision",
    "Event",
    "InstanceStored",
    "Instant",
    "Listed",
    "ListedSeries",
    "OrderKnown",
    "PerformedStep",
    "Phase",
    "Released",
    "RhythmLearnt",
    "Source",
    "State",
    "StepStatus",
    "Tick",
    "due_in_seconds",
    "step",
]
