"""Removes received images that are old enough, after the archive was asked whether it has them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from node.archive import image_retention
from node.archive.engine import Store
from node.archive_view import ArchiveView
from node.dicom.archive_views import view_of
from node.errors import PeerError
from node.settings import Settings

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86400.0
_AT_ONCE = 100


class Retiring:
    """Carries out ``[retention]`` for one node.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store

    def run(self, now: float | None = None) -> tuple[int, int]:
        """Remove what is due; return how many studies went, and how many stay because the archive does not list them.

        Parameters
        ----------
        now : float or None
            Seconds since the epoch; None: the clock's.
        """
        section = self._settings.retention
        if not section.images_days:
            return 0, 0
        now = time.time() if now is None else now
        if section.archive is None:
            return self._all(None, now)
        try:
            with view_of(self._settings, section.archive) as view:
                return self._all(view, now)
        except PeerError as error:
            logger.warning("archive %s cannot be asked which images it has; they stay: %s", section.archive, error)
            return 0, 0

    def _all(self, view: ArchiveView | None, now: float) -> tuple[int, int]:
        before = now - self._settings.retention.images_days * _DAY_SECONDS
        gone = kept = 0
        after = ""
        while True:
            with self._store.read() as connection:
                due = image_retention.due(connection, before, after=after, limit=_AT_ONCE)
            for study_uid in due:
                removed = self._one(view, study_uid, now, before)
                gone += removed is True
                kept += removed is False
            if len(due) < _AT_ONCE:
                return gone, kept
            after = due[-1]

    def _one(self, view: ArchiveView | None, study_uid: str, now: float, before: float) -> bool | None:
        """Whether a study's images went; None where something has come or begun meanwhile."""
        section = self._settings.retention
        with self._store.read() as connection:
            rows = image_retention.rows_of(connection, study_uid)
        listed = view is not None and _lists_all(view, study_uid, rows)
        if not listed and section.unlisted == "keep":
            logger.info("study %s stays: archive %s does not list all of its images", study_uid, section.archive)
            return False
        with self._store.write() as connection:
            removed = image_retention.remove(
                connection,
                now,
                study_uid,
                before,
                self._settings.data_dir / "spool",
                archive=section.archive or "",
                listed=listed,
            )
        return None if removed is None else True


def _lists_all(view: ArchiveView, study_uid: str, rows: Iterable[Any]) -> bool:
    """Whether the archive lists every image. What others sent back of our own results is no image it must have."""
    by_series: dict[str, set[str]] = {}
    for row in rows:
        if not row.ours:
            by_series.setdefault(row.series_uid, set()).add(row.sop_instance_uid)
    return all(
        view.lists(study_uid, series_uid, sorted(uids)) >= uids for series_uid, uids in sorted(by_series.items())
    )
