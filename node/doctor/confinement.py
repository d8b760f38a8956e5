"""How model hosts are shut in on this machine: one is really started."""

from __future__ import annotations

from node.confinement.shut_in import Confinement
from node.errors import ChildDied, Misconfigured
from node.jobs.executors.local import LocalExecutor
from node.jobs.host_plan import NOT_CONFINED
from node.jobs.host_report import model_hosts as model_hosts_running
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
    if found == NOT_CONFINED or _gaps(settings, found):
        raise Misconfigured(f"a model host started here is {found.words} (docs/confinement.md)")
    return f"one started here is {found.words}"


def _gaps(settings: Settings, found: Confinement) -> dict[str, str]:
    """Without the user's where hosts that run have it: whoever calls this may lack what the dispatcher's unit has."""
    running = model_hosts_running(settings.data_dir)
    taken = bool(running) and all("user" in each["holds"] for each in running)
    return {name: why for name, why in found.gaps.items() if not (name == "user" and taken)}
