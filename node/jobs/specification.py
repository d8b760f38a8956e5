"""What a model host is told, and what it answers. Both cross a process boundary as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dicom_sr.identity import NodeIdentity
from dicom_sr.requested import RequestedProcedure
from node.settings import ExternalSection, ProfileSection


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


class Failure(_Message):
    """An error as it crosses the process boundary: stable code, message, remedy, facts, whether a retry may help."""

    code: str
    message: str
    remedy: str = ""
    detail: dict[str, Any] = Field(default_factory=dict)
    transient: bool = False


class ObjectReference(_Message):
    """An object that was frozen before."""

    role: str
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str


class Predecessor(_Message):
    """The earlier result on the same study and rule that a run takes the place of.

    Attributes
    ----------
    moment : str
        When it was frozen, site's wall clock, ``YYYY-MM-DD HH:MM``.
    outcome : str or None
        None where that run had failed.
    objects : dict
        Profile of the new run → the standing objects at its destinations.
    """

    job_id: int
    run: int
    moment: str
    outcome: str | None = None
    total_ml: float | None = None
    images_added: int = 0
    images_removed: int = 0
    series_added: list[str] = Field(default_factory=list)
    objects: dict[str, list[ObjectReference]] = Field(default_factory=dict)


class StoredFile(_Message):
    """A stored typed result (:mod:`models.stored_result`). ``digest`` is the SHA-256 of the file."""

    path: Path
    digest: str
    size: int


class Prior(_Message):
    """An earlier study of the same patient with a result of the same model.

    Attributes
    ----------
    stored : StoredFile or None
        None where the comparison is withheld, or nothing is left to compare with.
    segmentation : Path or None
        Its segmentation object; None where nothing had been found.
    files : list of Path
        Images that run took; empty where they are gone.
    withheld : str or None
        Why it must not be compared with: a value of :class:`models.results.NotCompared`.
    """

    study_uid: str
    study_date: str = ""
    stored: StoredFile | None = None
    segmentation: Path | None = None
    files: list[Path] = Field(default_factory=list)
    withheld: str | None = None


class Request(_Message):
    """An object in which a reader has drawn what is to be outlined. ``digest`` is that of its data set."""

    path: Path
    digest: str
    follow: bool = True


class EarlierImages(_Message):
    """Images of an earlier study of the same patient, for a model that looks at both.

    Attributes
    ----------
    files : list of Path
    digests : list of str
        Of their data sets, sorted: what is looked at decides about the result.
    """

    study_uid: str
    study_date: str
    files: list[Path]
    digests: list[str]


class Retraction(_Message):
    """Objects that were replaced, and the result they belonged to.

    Attributes
    ----------
    maker_id : int or None
        Job that made them.
    earlier : Predecessor or None
        Their result, and the images that are new since; None where they are of the same run, or nothing is known.
    outcome, total_ml
        Of the result that stands now.
    is_same_run : bool
        The same result was written anew, as what the destination takes.
    """

    objects: list[ObjectReference]
    moment: str
    run: int
    maker_id: int | None = None
    earlier: Predecessor | None = None
    outcome: str | None = None
    total_ml: float | None = None
    is_same_run: bool = False


class RunAccount(_Message):
    """What a run came to, for the combined status of its study.

    Attributes
    ----------
    is_open : bool
        It has not ended.
    failure : Failure or None
        Why it has no result, or why its result could not be sent.
    outcome : str or None
        ``models.results.Outcome``; None where there is no result.
    summary : dict
        Of the result, as its job keeps it.
    stored : StoredFile or None
        The typed result where it is still here.
    """

    job_id: int
    rule: str
    model_id: str
    run: int
    is_open: bool = False
    failure: Failure | None = None
    outcome: str | None = None
    summary: dict[str, Any] = Field(default_factory=dict)
    stored: StoredFile | None = None


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
    stored : StoredFile or None
        When set no model runs: this result is rendered.
    retraction : Retraction or None
        When set nothing is read but headers, and only a note about these objects is rendered.
    accounts : list of RunAccount or None
        When set nothing is read but headers and stored results, and only the combined status of these runs is rendered.
    request : Request or None
        When set the model outlines what was drawn there.
    predecessor : Predecessor or None
        The result this run takes the place of.
    prior : Prior or None
        What the result is compared with.
    earlier : EarlierImages or None
        What a model that takes an earlier image may look at.
    external : ExternalSection
        What this site lets programs of external models have.
    anonymisation_key : str
        Hex; of this site, for profiles with ``anonymous``. Empty where there is none.
    contradictions : str
        ``"block"`` or ``"flag"`` (:mod:`models.report`).
    question : str
        ``"order"``, ``"report"`` or ``"any"``: the model answers the question found there and measures nothing.
    approved : dict
        Model id → digest of the files that may serve; of several versions, those serve.
    require_approval : bool
        Whether others are refused. `ainode process` refuses none.
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
    contradictions: str = "block"
    question: str = "none"
    model_folders: list[Path] = Field(default_factory=list)
    approved: dict[str, str] = Field(default_factory=dict)
    require_approval: bool = False
    parameters: dict[str, str] = Field(default_factory=dict)
    files: list[Path]
    profiles: dict[str, ProfileSection]
    languages: list[str]
    identity: NodeIdentity
    output_dir: Path
    deadline_seconds: float
    threads: int = 0
    status_only: Failure | None = None
    stored: StoredFile | None = None
    retraction: Retraction | None = None
    accounts: list[RunAccount] | None = None
    request: Request | None = None
    predecessor: Predecessor | None = None
    prior: Prior | None = None
    earlier: EarlierImages | None = None
    external: ExternalSection = Field(default_factory=ExternalSection)
    anonymisation_key: str = Field(default="", repr=False)
    procedures: list[RequestedProcedure] = Field(default_factory=list)
    limitations: list[str] = Field(default_factory=list)
    corrected: dict[str, str] = Field(default_factory=dict)

    @property
    def runs_model(self) -> bool:
        """Whether a model is asked; else only what is known already is written."""
        return all(each is None for each in (self.status_only, self.stored, self.retraction, self.accounts))

    @property
    def models(self) -> tuple[str, ...]:
        """Names of every model whose card or files it needs, each once."""
        told = [each.model_id for each in self.accounts or ()]
        return tuple(dict.fromkeys(each for each in (self.model_id, self.report_model, *told) if each))


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
    stored : StoredFile or None
        The typed result, in ``output_dir``; None where there is none worth keeping.
    checks : dict
        Profile → verdict of the check before sending: how many objects and parts, and what was wrong.
    embedding : list of float
        What the model made of the image, for the index of similar studies; empty where it gives none.
    failure : Failure or None
        The run failed (it was not refused: a refusal is an outcome, with a status object).
    """

    outcome: str | None = None
    work_key: str = ""
    summary: dict[str, Any] = Field(default_factory=dict)
    evidence: dict[str, Any] = Field(default_factory=dict)
    objects: list[WrittenObject] = Field(default_factory=list)
    timings: dict[str, float] = Field(default_factory=dict)
    stored: StoredFile | None = None
    checks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    embedding: list[float] = Field(default_factory=list, repr=False)
    failure: Failure | None = None
