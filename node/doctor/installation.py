"""Names, disk, permissions, time zone: what belongs to the machine."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

from node.dicom.files import check_files, secret_files
from node.errors import Misconfigured, SpoolFull, TlsUnusable
from node.monitor.certificates import own_dates, peer_dates, shown_dates
from node.monitor.forecast import NEVER_DAYS, days_to_reserve, history
from node.settings import Settings


def names(settings: Settings) -> str:
    """No other distribution owns a package name."""
    from node import name_conflict

    name_conflict.check()
    return "no other distribution owns a package name of this product"


def disk(settings: Settings) -> str:
    """There is room, and for how long."""
    folder = next(each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists())
    free, reserve = shutil.disk_usage(folder).free, settings.receive.disk_reserve_bytes
    if free < reserve:
        raise SpoolFull(f"{free} bytes are free, the reserve is {reserve}")
    days = days_to_reserve(history(settings.data_dir), reserve)
    if days is not None and days < settings.monitor.forecast_days:
        raise SpoolFull(f"at the present pace the reserve is reached in {days:.1f} days")
    lasts = "" if days is None else ", it does not fill" if days >= NEVER_DAYS else f", lasts {days:.0f} days"
    return f"{free // 1024**2} MiB free in {folder}{lasts}"


def permissions(settings: Settings) -> str:
    """Nobody else may read patient data or secrets."""
    wrong = []
    for path in _private(settings):
        # Model hosts with a user of their own pass through the data folder on their way to their room.
        through = stat.S_IXOTH if path == settings.data_dir and settings.model_host.user else 0
        if path.exists() and path.stat().st_mode & stat.S_IRWXO & ~through:
            wrong.append(f"{path} may be read by others (mode {stat.S_IMODE(path.stat().st_mode):04o})")
    if settings.data_dir.exists() and not os.access(settings.data_dir, os.W_OK):
        wrong.append(f"{settings.data_dir} cannot be written to by this user")
    if wrong:
        raise Misconfigured(f"{'; '.join(wrong)}; use chmod o-rwx, or run this as the node's user")
    return "data folder, keys and secrets are closed to others"


def _private(settings: Settings) -> list[Path]:
    data = settings.data_dir
    keys = [settings.receive.tls.key, *(each.tls.key for each in settings.destination.values() if each.tls)]
    files = [data / "secret.key", data / "node.db", *secret_files(settings), *filter(None, keys)]
    return [data, *files]


def time_zone(settings: Settings) -> str:
    """Dates in results are those of the site."""
    wanted = settings.node.time_zone
    local = time.strftime("%Z%z")
    if not wanted and local.startswith("UTC"):
        raise Misconfigured(
            'node.time_zone is empty and the machine runs in UTC: set it to the site\'s zone, like "Asia/Tokyo", or "UTC"'
        )
    return f"{wanted or 'the machine’s'}: {local}"


def certificates(settings: Settings) -> str:
    """Own and peers' certificates last."""
    check_files(settings)
    dates = [*own_dates(settings), *peer_dates(settings), *shown_dates(settings)]
    limit = settings.monitor.certificate_days
    short = [each for each in dates if each.days is None or each.days < limit]
    if short:
        told = [each.problem or f"{each.name} has {each.days:.0f} days left" for each in short]
        raise TlsUnusable("; ".join(told))
    if not dates:
        return "none configured"
    first = min(dates, key=lambda each: each.days or 0.0)
    return f"{len(dates)} usable; the first to expire is {first.name}, in {first.days:.0f} days"
