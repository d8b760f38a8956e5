"""How model hosts are shut in on this machine: one is really started."""

from __future__ import annotations

from node.errors import ChildDied, Misconfigured
from node.jobs.executors.local import LocalExecutor
from node.jobs.host_plan import NOT_CONFINED
from node.settings import Settings

_WAIT_SECONDS = 30.0


def model_hosts(settings: Settings) -> str:
    """Each measure holds. Says how one started by whoever calls this is shut in; `ainode status` says it of those that run."""
    executor = LocalExecutor(settings)
    try:
        found = executor.greeted(_WAIT_SECONDS)
    finally:
        executor.close()
    if found is None:
        raise ChildDied(f"a model host said nothing within {_WAIT_SECONDS:.0f} s")
    if found == NOT_CONFINED or found.gaps:
        raise Misconfigured(f"a model host started here is {found.words} (docs/confinement.md)")
    return f"one started here is {found.words}"
