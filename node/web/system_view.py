"""The node itself: processes, disk, queues, pauses, certificates."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, Row

from node.archive import pauses
from node.dicom.files import check_files
from node.errors import ConfigError, NodeNotRunning
from node.monitor.alarms import Standing, standing_alarms
from node.settings import Settings
from node.site_time import zone
from node.status import ask, published
from node.web.files import certificate_ends


@dataclass(frozen=True, slots=True)
class SystemView:
    """State of the node.

    Attributes
    ----------
    report : dict
        As `ainode status --json`; empty where no supervisor answers.
    summary : dict
        Counts as the scheduler published them last; ``at`` says when.
    certificate_days : int or None
        Days until the first certificate of the configuration expires; None where there is none.
    """

    name: str
    ae_title: str
    version: str
    time_zone: str
    mode: str
    report: dict[str, Any]
    summary: dict[str, Any]
    free_bytes: int
    total_bytes: int
    reserve_bytes: int
    certificate_days: int | None
    certificate_problem: str
    paused: list[Row[Any]] = field(default_factory=list)
    alarms: list[Standing] = field(default_factory=list)
    at: float = 0.0

    @property
    def used_percent(self) -> int:
        """How full the disk is."""
        return round(100.0 * (1.0 - self.free_bytes / self.total_bytes)) if self.total_bytes else 0


def system_view(connection: Connection, settings: Settings) -> SystemView:
    """Read it; asks the supervisor where one runs."""
    try:
        report = ask(settings.data_dir)
    except NodeNotRunning:
        report = {}
    disk = shutil.disk_usage(settings.data_dir)
    days, problem = _certificates(settings)
    return SystemView(
        settings.node.name,
        settings.node.ae_title,
        version("ainode"),
        zone(),
        settings.receive.mode,
        report,
        published(settings.data_dir),
        disk.free,
        disk.total,
        settings.receive.disk_reserve_bytes,
        days,
        problem,
        pauses.active(connection),
        standing_alarms(settings.data_dir),
        time.time(),
    )


def _certificates(settings: Settings) -> tuple[int | None, str]:
    try:
        ends = [each for each in (check_files(settings), certificate_ends(settings)) if each is not None]
    except ConfigError as error:
        return None, str(error)
    return ((min(ends) - datetime.now(UTC)).days if ends else None), ""
