"""From a job's number to its debug bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from node import earlier_images
from node.archive.engine import Store
from node.debug_bundle import write_bundle
from node.errors import NotStored, UsageError
from node.identity import load_identity
from node.installed_models import registry_of
from node.jobs import queue
from node.jobs.queue import JobKind, LeasedJob
from node.jobs.specification import JobSpec, Request
from node.settings import Settings


def bundle_of_job(settings: Settings, store: Store, job_id: int, out: Path) -> dict[str, Any]:
    """Write the bundle of a job whose images are still here; see :func:`node.debug_bundle.write_bundle`.

    Raises
    ------
    NotStored
        There is no such job, or its images are gone.
    UsageError
        It is no run of a model.
    """
    with store.read() as connection:
        row = queue.get(connection, job_id)
        registry = registry_of(settings, connection)
        earlier = earlier_images.find(connection, LeasedJob.of(row), settings) if row is not None else None
    if row is None:
        raise NotStored(f"there is no job {job_id}")
    if row.kind != JobKind.RUN:
        raise UsageError(f"job {job_id} runs no model; name the run it belongs to")
    content = row.specification
    files = [settings.data_dir / "spool" / path for path in content["files"]]
    if any(not path.is_file() for path in files):
        raise NotStored(f"images of job {job_id} are gone; have the study sent again")
    result = dict(row.result or {})
    if result.get("stored"):
        result["stored"] = {**result["stored"], "path": settings.data_dir / "outbox" / result["stored"]["path"]}
    with tempfile.TemporaryDirectory() as folder:
        spec = JobSpec(
            job_id=job_id,
            study_uid=row.study_uid,
            rule=row.rule,
            model_id=row.model_id,
            question=content.get("question", "none"),
            parameters=content["parameters"],
            files=files,
            profiles={},
            languages=content["languages"],
            identity=load_identity(settings),
            output_dir=Path(folder),
            deadline_seconds=content["deadline_seconds"],
            corrected=content.get("corrected", {}),
            request=_request(job_id, content, settings),
            earlier=earlier,
        )
        about = {"state": row.state, "error_code": row.error_code, "message": row.message, "result": result}
        return write_bundle(spec, registry, about, out)


def _request(job_id: int, content: dict[str, Any], settings: Settings) -> Request | None:
    asked = content.get("request")
    if asked is None:
        return None
    if not (path := settings.data_dir / "spool" / asked["path"]).is_file():
        raise NotStored(f"what the reader drew for job {job_id} is gone; have the object sent again")
    return Request(path=path, digest=asked["digest"], follow=asked["follow"])
