"""The answer to `ainode status`, whoever gives it: the supervisor, or the scheduler where each process is a unit."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from node.jobs.host_report import model_hosts
from node.jobs.progress import ProgressBoard
from node.monitor.alarms import standing_alarms
from node.settings import Settings
from node.status import published


class NodeReport:
    """Makes the report.

    Parameters
    ----------
    settings : Settings
    processes : callable
        The node's processes: ``name, pid, running, ready, says, restarts, last_ending``.
    """

    def __init__(self, settings: Settings, processes: Callable[[], list[dict[str, Any]]]) -> None:
        self._settings = settings
        self._processes = processes
        self._since = time.monotonic()
        self._started_at = time.time()

    def __call__(self) -> dict[str, Any]:
        """What `ainode status --json` prints: stable keys, no patient data."""
        receive = self._settings.receive
        return {
            "node": self._settings.node.name,
            "ae_title": self._settings.node.ae_title,
            "version": metadata.version("ainode"),
            "pid": os.getpid(),
            "started_at": self._started_at,
            "uptime_seconds": round(time.monotonic() - self._since, 1),
            "data_dir": str(self._settings.data_dir),
            "listen": {"host": receive.host, "port": receive.port if receive.plain else None},
            "listen_tls": {"host": receive.host, "port": receive.tls.port} if receive.tls.enabled else None,
            "mode": receive.mode,
            "survives_power_cut": receive.mode == "instance",
            "processes": self._processes(),
            "model_hosts": model_hosts(self._settings.data_dir),
            "disk": {"free_bytes": _free_bytes(self._settings.data_dir), "reserve_bytes": receive.disk_reserve_bytes},
            "alarms": [
                {"alarm": str(each.alarm), "subject": each.subject, "words": each.words, "since": each.raised_at}
                for each in standing_alarms(self._settings.data_dir)
            ],
            "writing": {str(job): each.facts() for job, each in ProgressBoard(self._settings.data_dir).all().items()},
            "summary": published(self._settings.data_dir),
        }


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None  # unmounted under us; whoever writes there says so
