"""Whether there is room, and for how long."""

from __future__ import annotations

import shutil

from node.errors import SpoolFull
from node.monitor.condition import Alarm, Condition
from node.monitor.forecast import days_to_reserve, history
from node.settings import Settings


def disk_conditions(settings: Settings) -> list[Condition]:
    """The disk is below its reserve, or will be within ``monitor.forecast_days``."""
    reserve = settings.receive.disk_reserve_bytes
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return [Condition(Alarm.DISK_FULL, "", f"the data folder cannot be looked at: {error.strerror}")]
    if free < reserve:
        words = f"{SpoolFull.code}: {free // 1024**2} MiB are free, the reserve is {reserve // 1024**2} MiB: senders get A700"
        return [Condition(Alarm.DISK_FULL, "", words)]
    days = days_to_reserve(history(settings.data_dir), reserve)
    if days is not None and days < settings.monitor.forecast_days:
        words = f"at the pace of the last two weeks the disk reaches its reserve in {days:.1f} days"
        return [Condition(Alarm.DISK_FILLING, "", words)]
    return []
