"""What the API says."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of answers: read from rows and data classes as well."""

    model_config = ConfigDict(from_attributes=True)


class Fault(Answer):
    """What went wrong, and what to do."""

    code: str
    message: str
    remedy: str


class Done(Answer):
    """An action was carried out."""

    done: bool = Field(description="False where nothing had to be done")
    detail: str = ""
    numbers: list[int] = Field(default_factory=list, description="Jobs or deliveries that were queued")


class Study(Answer):
    """One study in a list."""

    study_uid: str
    accession_number: str
    state: str = Field(description="waiting, provisional, complete; unknown where nothing of it was stored")
    stage: str = Field(description="needs-somebody, arriving, running, sending, delivered, nothing-to-do")
    held: bool
    needs_somebody: bool
    reasons: list[str] = Field(description="Why it needs somebody: held, error codes, not delivered")
    first_at: float
    last_at: float
    images: int
    modality: str
    jobs: dict[str, int] = Field(description="Latest runs of each rule, by state")
    deliveries: dict[str, int]


class Studies(Answer):
    """A page of studies."""

    studies: list[Study]
    following: str = Field(description="`after` of the next page; empty on the last")


class Event(Answer):
    """One event of a study's story."""

    at: float
    kind: str
    head: str
    rest: list[str]
    loud: bool


class SeriesOf(Answer):
    """A series as received."""

    series_uid: str
    modality: str
    images: int
    ours: bool = Field(description="Made by this node")


class TextProgress(Answer):
    """How far the text of a running job is; never a word of it."""

    model: str
    tokens: int
    limit: int
    tokens_per_second: float | None
    at: float


class Job(Answer):
    """One run."""

    job: int
    study_uid: str
    state: str
    priority: str
    rule: str
    model: str
    run: int
    kind: str
    attempts: int
    maximum_attempts: int
    outcome: str | None
    total_ml: float | None
    total_range_ml: tuple[float, float] | None = Field(
        default=None,
        description="Smallest and largest total that other decision thresholds would have given; no confidence interval",
    )
    error_code: str | None
    message: str | None
    remedy: str | None
    shadow: bool
    provisional: bool
    superseded: bool
    created_at: float
    started_at: float | None
    ended_at: float | None
    progress: TextProgress | None


class Delivery(Answer):
    """One object at one destination."""

    delivery: int
    study_uid: str
    sop_instance_uid: str
    role: str
    destination: str
    state: str
    proof: str | None
    attempts: int
    status: int | None
    message: str | None
    job: int
    created_at: float
    sent_at: float | None
    proven_at: float | None


class Story(Answer):
    """Everything that is known of a study."""

    study: Study
    held_reason: str
    series: list[SeriesOf]
    jobs: list[Job]
    deliveries: list[Delivery]
    events: list[Event]


class CapabilityOf(Answer):
    """What a destination says to one kind of object."""

    sop_class_uid: str
    name: str
    transfer_syntaxes: list[str]
    accepted: bool


class Destination(Answer):
    """One destination."""

    name: str
    address: str
    kind: str
    profile: str
    breaker: str = Field(description="closed (it is called), open, downtime, unknown")
    breaker_until: float | None
    paused: str
    counts: dict[str, int]
    asked_at: float | None
    charset: str
    takes: list[CapabilityOf]


class Model(Answer):
    """One installed model."""

    model: str
    version: str
    name: str
    family: str
    licence: str
    intended_use: str
    digest: str
    approval: str = Field(description="embedded, approved, beside, changed, none, not needed")
    approved_by: str
    approved_at: float | None
    may_serve: bool
    missing: list[str]
    rules: list[str]
    runs_per_day: list[int] = Field(description="The last fourteen days, today last")
    card: dict[str, Any]


class Rule(Answer):
    """One rule."""

    name: str
    model: str
    report_model: str
    destinations: list[str]
    shadow: bool
    early: bool
    conditions: list[str]


class Tallied(Answer):
    """What a rule would have done."""

    rule: str
    fires: int
    images: int


class DryRun(Answer):
    """A replay of the last days."""

    studies: int
    whole: bool
    rules: list[Tallied]
    shown: list[dict[str, Any]]


class Expected(Answer):
    """One entry of a worklist; names no patient."""

    starts_at: float | None
    worklist: str
    modality: str
    station: str
    procedure: str
    priority: str
    accession_number: str
    state: str = Field(description="expected, overdue, gone, arrived")
    study_state: str
    study_uid: str
    intends: list[str]


class Pause(Answer):
    """What is stopped."""

    scope: str
    name: str
    reason: str
    by: str
    since: float


class System(Answer):
    """The node itself."""

    name: str
    ae_title: str
    version: str
    time_zone: str
    mode: str
    running: bool
    processes: list[dict[str, Any]]
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    certificate_days: int | None
    certificate_problem: str
    summary: dict[str, Any]
    paused: list[Pause]


class LedgerRow(Answer):
    """One row of the ledger."""

    id: int
    at: float
    kind: str
    study_uid: str | None
    job_id: int | None
    sop_instance_uid: str | None
    detail: dict[str, Any]
    sequence: int | None


class Ledger(Answer):
    """A page of the ledger, newest first."""

    rows: list[LedgerRow]
    before: int | None = Field(description="`before` of the next page; null where nothing is older")


class User(Answer):
    """One user."""

    name: str
    role: str
    provider: str
    second_factor: bool
    disabled: bool
    created_at: float
    signed_in_at: float | None
