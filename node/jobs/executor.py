"""What a dispatcher needs from an executor; where runs take place is the executor's business."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from node.confinement.shut_in import Confinement
from node.jobs.specification import JobSpec, ResultBundle
from node.settings import Settings


class RunAbandoned(Exception):
    """The dispatcher no longer wants the run (lease lost, job cancelled, node stopping); the child was killed."""


class Executor(Protocol):
    """Runs jobs in a child that holds warm models and has neither database nor network."""

    @property
    def models(self) -> dict[str, dict[str, bool]]:
        """Model → as `node.jobs.self_tests.SelfTests.state` has it; as far as it is known. Never waits.

        Raises
        ------
        ChildDied
            The child ended while it warmed up.
        """

    @property
    def confinement(self) -> Confinement | None:
        """How the child is shut in; None where it has not said so yet."""

    def start(self, approved: Callable[[], Mapping[str, str]]) -> None:
        """Make sure a child is there and warming up. Returns at once.

        Parameters
        ----------
        approved : callable
            Gives model id → digest of the files that may serve; asked only where a child has to warm up.
        """

    def test_when_idle(self, approved: Callable[[], Mapping[str, str]]) -> bool:
        """Have an idle child ask a model for its known answer that has not been asked for a day. Returns at once.

        Returns
        -------
        bool
            Whether it is being asked; call it again to learn when it has answered. A run would have to wait for that.

        Raises
        ------
        ChildDied, DeadlineExceeded
            The child ended, or was killed because it did not answer.
        """

    def run(self, spec: JobSpec, *, abandoned: Callable[[], bool]) -> ResultBundle:
        """Run one job.

        Parameters
        ----------
        spec : JobSpec
            Its ``deadline_seconds`` is kept by killing the child.
        abandoned : callable
            Asked several times a second; True kills the child.

        Raises
        ------
        DeadlineExceeded
            The child was killed at the deadline.
        ChildDied
            The child ended by itself.
        RunAbandoned
            ``abandoned`` said so.
        """

    def discard(self) -> None:
        """Kill the child, so that the next run gets a fresh one."""

    def close(self) -> None:
        """Kill the child for good."""


def executor_for(settings: Settings) -> Executor:
    """The executor that ``jobs.executor`` names."""
    if settings.jobs.executor == "ray":
        from node.jobs.executors.ray import RayExecutor

        return RayExecutor(settings)
    from node.jobs.executors.local import LocalExecutor

    return LocalExecutor(settings)
