"""A Unified Procedure Step as a performer sees it: whether to take it, and what has become of it. Pure.

One state machine for DIMSE and UPS-RS (PS3.4 CC.1.1, PS3.18 11): SCHEDULED is claimed into IN PROGRESS, and ends as
COMPLETED or CANCELED. Which of the two, and when, follows from the runs that stem from it and from their deliveries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from node.orders import Code, Order


class StepState(StrEnum):
    """Procedure Step State (0074,1000)."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Workitem:
    """What is to be done on which images (PS3.4 table CC.2.5-3).

    Attributes
    ----------
    inputs : mapping
        Study Instance UID → Series Instance UID → SOP Instance UIDs; no instances: the whole series.
    order : Order
        Patient and request as the workitem carries them; its protocol code is the workitem's.
    readiness : str
        Input Readiness State (0040,4041).
    """

    uid: str
    state: str
    label: str
    code: Code
    stations: tuple[Code, ...]
    readiness: str
    order: Order
    inputs: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)


class Reason(StrEnum):
    """Why a workitem is cancelled; the value is its code in CID 9300 of PS3.16."""

    FAILED = "110501"
    UNSPECIFIED = "110513"
    NOT_SUPPORTED = "110522"
    INCOMPLETE = "110523"


MEANINGS = {
    Reason.FAILED: "Equipment failure",
    Reason.UNSPECIFIED: "Discontinued for unspecified reason",
    Reason.NOT_SUPPORTED: "Object Types not supported",
    Reason.INCOMPLETE: "Object Set incomplete",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run that stems from a workitem.

    Attributes
    ----------
    state : str
        Of its job: queued, running, done, failed, dead, cancelled.
    problem : str
        Code of the error or refusal; empty where it answered.
    """

    job_id: int
    state: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One result object at one destination; ``settled``: proven to be there, or known that nobody can prove it."""

    job_id: int
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    destination_ae_title: str
    state: str
    settled: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a claimed workitem. Seconds count from the claim.

    Attributes
    ----------
    cancel_asked : bool
        Its manager asked to cancel it, and its runs were stopped then (PS3.4 CC.2.2).
    """

    study_here: bool
    complete: bool
    held: bool
    fetch_failed: bool
    cancel_asked: bool
    runs: tuple[Run, ...]
    outputs: tuple[Output, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a claimed workitem stands: IN PROGRESS with a word about it, or an end."""

    state: StepState
    percent: int
    words: str
    reason: Reason | None = None


def why_not_ours(workitem: Workitem, station_names: Sequence[str], *, unassigned: bool) -> str | None:
    """Why this node does not take a workitem, None where it does (IHE AIW-I RAD-82: not what is somebody else's)."""
    if workitem.state != StepState.SCHEDULED:
        return f"it is {workitem.state}"
    if workitem.readiness != "READY":
        return f"its input is {workitem.readiness or 'not said to be ready'}"
    named = {code.value for code in workitem.stations}
    if named and not named.intersection(station_names):
        return "it is scheduled for another station"
    if not named and not unassigned:
        return "it is scheduled for no station, and workitems.unassigned is off"
    if not workitem.inputs:
        return "it names no input"
    return None


def judge(standing: Standing, patience_seconds: float) -> Verdict:
    """Where a claimed workitem stands."""
    if standing.held:
        return Verdict(StepState.IN_PROGRESS, 10, "held: the images belong to two patients; a person decides")
    if standing.cancel_asked and not standing.outputs:
        return Verdict(StepState.CANCELED, 0, "cancelled as its manager asked", Reason.UNSPECIFIED)
    if not standing.runs:
        return _without_runs(standing, patience_seconds)
    running = [run for run in standing.runs if run.state in ("queued", "running")]
    if running:
        begun = any(run.state == "running" for run in running)
        return Verdict(StepState.IN_PROGRESS, 50 if begun else 20, "the model runs" if begun else "queued")
    problems = sorted({run.problem for run in standing.runs if run.problem})
    if waiting := [each for each in standing.outputs if each.state in ("queued", "sending", "unknown", "failed")]:
        words = f"{len(waiting)} of {len(standing.outputs)} deliveries are not through"
        return Verdict(StepState.IN_PROGRESS, 80, words)
    if any(each.state in ("dead", "withdrawn") for each in standing.outputs):
        return Verdict(StepState.CANCELED, 80, "results could not be delivered", Reason.FAILED)
    if problems:
        reason = Reason.FAILED if any(run.state != "done" for run in standing.runs) else Reason.NOT_SUPPORTED
        return Verdict(StepState.CANCELED, 100, f"did not run: {', '.join(problems)}", reason)
    if any(not each.settled for each in standing.outputs) and standing.seconds < patience_seconds:
        return Verdict(StepState.IN_PROGRESS, 90, "stored, not proven yet")
    return Verdict(StepState.COMPLETED, 100, "done")


def _without_runs(standing: Standing, patience_seconds: float) -> Verdict:
    if standing.fetch_failed and not standing.study_here:
        return Verdict(StepState.CANCELED, 0, "the input could not be retrieved", Reason.INCOMPLETE)
    if standing.seconds < patience_seconds:
        words = "images arrive" if standing.study_here else "the input is being retrieved"
        return Verdict(StepState.IN_PROGRESS, 10, words)
    if not standing.study_here:
        return Verdict(StepState.CANCELED, 0, "the input did not come", Reason.INCOMPLETE)
    if not standing.complete:
        return Verdict(StepState.CANCELED, 0, "the input did not become complete", Reason.INCOMPLETE)
    return Verdict(StepState.CANCELED, 0, "no rule of this node takes these images", Reason.NOT_SUPPORTED)
