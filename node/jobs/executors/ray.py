"""Runs jobs in a model-host child on another machine: Ray places the same executor around the same child.

Needs the extra ``cluster``, PostgreSQL, and ``data_dir`` on a file system that every machine mounts at the same place.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

from models.errors import NodeError, Transient
from node import log
from node.confinement.shut_in import Confinement
from node.errors import ChildDied, ConfigError, DeadlineExceeded
from node.jobs.executor import RunAbandoned
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import Failure, JobSpec, ResultBundle
from node.settings import Settings

_LOG = log.logger("executor")
_POLL_SECONDS = 0.2
# The remote side keeps the deadline; this is how much later we stop believing in it.
_GRACE_SECONDS = 330.0
_ASK_SECONDS = 60.0


class RemoteHost:
    """The actor: a local executor on the machine where Ray put it. It dies with its child, and its child with it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._executor = LocalExecutor(Settings.model_validate(settings))

    def start(self, approved: dict[str, str]) -> None:
        """Warm the child."""
        self._executor.start(lambda: approved)

    def test_when_idle(self, approved: dict[str, str]) -> None:
        """Have a model asked that is due; a run that comes waits for its answer."""
        self._executor.test_when_idle(lambda: approved)

    def run(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Run one job; errors come back as a failure, so that Ray need not carry exceptions."""
        try:
            bundle = self._executor.run(JobSpec.model_validate(spec), abandoned=lambda: False)
        except NodeError as error:
            failure = Failure(
                code=error.code,
                message=error.message,
                remedy=error.remedy,
                detail=error.detail,
                transient=isinstance(error, Transient),
            )
            bundle = ResultBundle(failure=failure)
        return bundle.model_dump(mode="json")


class RayExecutor:
    """Keeps one actor in the cluster.

    Parameters
    ----------
    settings : Settings
        As every machine of the cluster sees them.

    Raises
    ------
    ConfigError
        Ray is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("jobs.executor: 'ray' needs the extra `cluster`; install it, or choose 'local'")
        import ray

        self._ray: Any = ray
        self._settings = settings
        self._actor: Any = None
        self._ask_at = time.monotonic() + _ASK_SECONDS

    @property
    def models(self) -> dict[str, dict[str, bool]]:
        """Not told across machines."""
        return {}

    @property
    def confinement(self) -> Confinement | None:
        """Not told across machines."""
        return None

    def start(self, approved: Callable[[], Mapping[str, str]]) -> None:
        """See `Executor.start`."""
        if self._actor is not None:
            return
        if not self._ray.is_initialized():
            self._ray.init(address="auto", log_to_driver=False)
        content = self._settings.model_dump(mode="json")
        self._actor = self._ray.remote(RemoteHost).options(num_cpus=1, max_restarts=0).remote(content)
        self._actor.start.remote(dict(approved()))

    def test_when_idle(self, approved: Callable[[], Mapping[str, str]]) -> bool:
        """See `Executor.test_when_idle`; asked once a minute, and not waited for."""
        if self._actor is not None and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _ASK_SECONDS
            self._actor.test_when_idle.remote(dict(approved()))
        return False

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        """See `Executor.run`."""
        self.start(lambda: spec.approved)
        until = time.monotonic() + spec.deadline_seconds + _GRACE_SECONDS
        answer = self._actor.run.remote(spec.model_dump(mode="json"))
        while not self._ray.wait([answer], timeout=_POLL_SECONDS)[0]:
            if abandoned():
                self.discard()
                raise RunAbandoned("the run")
            if time.monotonic() > until:
                self.discard()
                raise DeadlineExceeded(f"no answer from the cluster within {_GRACE_SECONDS:.0f} s of the deadline")
        try:
            return ResultBundle.model_validate(self._ray.get(answer))
        except self._ray.exceptions.RayError as error:
            self.discard()
            log.say(_LOG, 40, "the cluster lost the run", error=type(error).__name__)
            raise ChildDied(f"the cluster lost the run ({type(error).__name__})") from error

    def discard(self) -> None:
        """See `Executor.discard`."""
        if self._actor is not None:
            self._ray.kill(self._actor)
            self._actor = None

    def close(self) -> None:
        """See `Executor.close`."""
        self.discard()
