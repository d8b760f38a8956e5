"""What a model host is told, and what it answers. Both cross a process boundary as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dicom_sr.identity import NodeIdentity
from dicom_sr.requested import RequestedProcedure
from node.settings import ProfileSection


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


class Failure(_Message):
    """An error as it crosses the process boundary: stable code, message, remedy, facts, whether a retry may help."""

    code: str
    message: str
    remedy: str = ""
    detail: dict[str, Any] = Field(default_factory=dict)
    transient: bool = False


class JobSpec(_Message):
    """One run over one study.

    Attributes
    ----------
    files : list of Path
        Absolute paths of every input instance (Part 10), any order.
    profiles : dict
        Profile name → what objects it wants. One object set is rendered for each.
    languages : list of str
        Languages of the draft where a profile names none.
    output_dir : Path
        Existing empty folder on the file system of the outbox; objects are written and synced there.
    status_only : Failure or None
        When set nothing is read but headers, no model runs, and only status objects with this reason are rendered.
    procedures : list of RequestedProcedure
        The order, where one agrees with the images.
    corrected : dict
        Attributes of the patient, by keyword, that hold instead of those in the files.
    limitations : list of str
        Keys of fixed sentences (``models.phrases_…``) for what is known of the study before the model runs.
    """

    job_id: int
    study_uid: str
    run: int = 1
    rule: str
    model_id: str
    report_model: str | None = None
    model_folders: list[Path] = Field(default_factory=list)
    parameters: dict[str, str] = Field(default_factory=dict)
    files: list[Path]
    profiles: dict[str, ProfileSection]
    languages: list[str]
    identity: NodeIdentity
    output_dir: Path
    deadline_seconds: float
    threads: int = 0
    status_only: Failure | None = None
    procedures: list[RequestedProcedure] = Field(default_factory=list)
    limitations: list[str] = Field(default_factory=list)
    corrected: dict[str, str] = Field(default_factory=dict)


class WrittenObject(_Message):
    """A checked object in ``output_dir``. ``digest`` is the SHA-256 of the whole file."""

    role: str
    profile: str
    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    transfer_syntax_uid: str
    digest: str
    size: int


class ResultBundle(_Message):
    """Answer of one run.

    Attributes
    ----------
    outcome : str or None
        ``models.results.Outcome`` value; None when ``failure`` is set.
    work_key : str
        Key of promise 3, hex.
    summary : dict
        Short JSON of the typed result for the job row: total_ml, regions, texts, model, provider.
    timings : dict
        Seconds by step: ``load``, ``model``, ``report``, ``render``, ``check``, ``write``.
    failure : Failure or None
        The run failed (it was not refused: a refusal is an outcome, with a status object).
    """

    outcome: str | None = None
    work_key: str = ""
    summary: dict[str, Any] = Field(default_factory=dict)
    evidence: dict[str, Any] = Field(default_factory=dict)
    objects: list[WrittenObject] = Field(default_factory=list)
    timings: dict[str, float] = Field(default_factory=dict)
    failure: Failure | None = None
