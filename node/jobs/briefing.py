"""What a child is told of a job: its specification, with everything that is looked up when it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dicom_sr.identity import NodeIdentity
from models.errors import StoredResultDamaged
from node import earlier_images, priors
from node.archive import approvals
from node.archive.engine import Store
from node.archive.placing import as_spool_error
from node.errors import SpoolDamaged
from node.jobs import queue, retractions, status_jobs, versions
from node.jobs.deadlines import Deadlines
from node.jobs.queue import JobKind, LeasedJob
from node.jobs.specification import JobSpec, Request, StoredFile
from node.settings import ProfileSection, Settings
from node.site_secret import anonymisation_key


class Briefing:
    """Makes specifications.

    Parameters
    ----------
    settings : Settings
    store : Store
    identity : NodeIdentity
        Stands in every object.
    """

    def __init__(self, settings: Settings, store: Store, identity: NodeIdentity) -> None:
        self._settings = settings
        self._store = store
        self._identity = identity
        self._deadlines = Deadlines(settings.models.folders, settings.jobs.deadline_seconds)

    def specify(self, job: LeasedJob, folder: Path, *, with_history: bool = True) -> JobSpec:
        """The job with everything that is looked up at start.

        Raises
        ------
        SpoolDamaged
            Files the job takes are missing.
        StoredResultDamaged
            The run whose result is to be written anew has left none.
        """
        content = job.specification
        spool = self._settings.data_dir / "spool"
        files = [spool / path for path in content["files"]]
        missing = [path.name for path in files if not path.is_file()]
        if job.kind is JobKind.STATUS:
            # It tells of all runs; retention may have removed what some of them took.
            files = [path for path in files if path.name not in missing] or files
            missing = missing if not files[0].is_file() else []
        if missing:
            raise SpoolDamaged(f"{len(missing)} of {len(files)} files are missing from the spool", files=missing[:10])
        try:
            folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise as_spool_error(error) from error
        profiles = {name: ProfileSection.model_validate(each) for name, each in content["profiles"].items()}
        return JobSpec(
            job_id=job.id,
            study_uid=job.study_uid,
            run=job.run,
            rule=job.rule,
            model_id=job.model_id,
            report_model=content["report_model"],
            contradictions=content.get("contradictions", "block"),
            question=content.get("question", "none"),
            model_folders=self._settings.models.folders,
            approved=self.approved(),
            require_approval=self._settings.models.require_approval,
            parameters=content["parameters"],
            files=files,
            profiles=profiles,
            languages=content["languages"],
            identity=self._identity,
            output_dir=folder,
            deadline_seconds=self._deadline(job),
            threads=self._settings.jobs.threads,
            procedures=content.get("procedures", []),
            limitations=content.get("limitations", []),
            corrected=content.get("corrected", {}),
            request=_request(content, spool),
            external=self._settings.external,
            anonymisation_key=anonymisation_key(self._settings, profiles.values()),
            **(self._history(job) if with_history else {}),
        )

    def _deadline(self, job: LeasedJob) -> float:
        """Seconds as decided; where only the node's limit was to be had, what the cards say of it now goes first."""
        content = job.specification
        if content.get("deadline_by") != "node" or job.kind is not JobKind.RUN:
            return float(content["deadline_seconds"])
        return self._deadlines.of([name for name in (job.model_id, content["report_model"]) if name])

    def approved(self) -> dict[str, str]:
        """Model id → digest of the files that may serve."""
        with self._store.read() as connection:
            return approvals.current(connection)

    def _history(self, job: LeasedJob) -> dict[str, Any]:
        """What the job has to know of earlier results."""
        with self._store.read() as connection:
            if job.kind is JobKind.RETRACT:
                return {"retraction": retractions.still_to_retract(connection, job)}
            if job.kind is JobKind.STATUS:
                return {
                    "accounts": status_jobs.accounts(connection, job, self._settings.data_dir / "outbox"),
                    "predecessor": status_jobs.predecessor(connection, job, self._identity),
                }
            if job.kind is JobKind.RENDER:
                return self._told_before(connection, job)
            return {
                "predecessor": versions.predecessor(connection, job, self._identity),
                "prior": priors.find(connection, job, self._settings),
                "earlier": earlier_images.find(connection, job, self._settings),
            }

    def _told_before(self, connection: Any, job: LeasedJob) -> dict[str, Any]:
        """The stored result of the run that a job writes anew."""
        run = queue.get(connection, job.parent_id or 0)
        stored = ((run.result if run is not None else None) or {}).get("stored")
        if stored is None:
            raise StoredResultDamaged(f"run {job.parent_id} has left no stored result")
        file = StoredFile.model_validate(stored)
        return {
            "stored": file.model_copy(update={"path": self._settings.data_dir / "outbox" / file.path}),
            "prior": priors.of_run(connection, run, self._settings),
        }


def _request(content: dict[str, Any], spool: Path) -> Request | None:
    asked = content.get("request")
    if asked is None:
        return None
    if not (path := spool / asked["path"]).is_file():
        raise SpoolDamaged("the request is missing from the spool", files=[path.name])
    return Request(path=path, digest=asked["digest"], follow=asked["follow"])
