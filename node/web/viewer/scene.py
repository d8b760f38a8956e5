"""Everything the overlay viewer needs to know of a study, but its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from dicom_sr.pixels import READ_ERRORS
from node.archive.engine import Store
from node.settings import Settings
from node.web.dicomweb.attributes import HeaderReader, tag_of
from node.web.dicomweb.holdings import Holding, Holdings
from node.web.dicomweb.kept import Kept
from node.web.dicomweb.pixel_source import read_stored
from node.web.viewer.earlier import Earlier, earlier_study
from node.web.viewer.overlays import read_overlay
from node.web.viewer.report_tree import Report, report_of
from node.web.viewer.stacks import Stack, stacks_of

_KEPT_STUDIES = 8


@dataclass(frozen=True, slots=True)
class Contents:
    """A study as it stands now.

    Attributes
    ----------
    date, accession_number : str
        Of its first image.
    """

    study_uid: str
    held: tuple[Holding, ...]
    date: str = ""
    accession_number: str = ""
    earlier: Earlier | None = None

    @property
    def has_results(self) -> bool:
        """Whether this node has made something of it."""
        return any(each.produced is not None for each in self.held)


class Scenes:
    """Makes scenes, and remembers the last ones. Safe to share between threads."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._store = store
        self._holdings = Holdings(settings)
        self._headers = HeaderReader()
        self._kept: Kept[dict[str, Any]] = Kept(_KEPT_STUDIES)

    def contents(self, study_uid: str) -> Contents | None:
        """What there is of a study; None where there is nothing."""
        with self._store.read() as connection:
            first = self._holdings.first(connection, study_uid)
            if first is None:
                return None
            found = self._headers.of(first, ["StudyDate", "AccessionNumber"])
            date, accession = (
                str((found[tag_of(keyword)].get("Value") or [""])[0]) for keyword in ("StudyDate", "AccessionNumber")
            )
            held = tuple(self._holdings.find(connection, study_uid))
            earlier = earlier_study(connection, self._holdings, self._headers, study_uid)
            return Contents(study_uid, held, date, accession, earlier)

    def scene(self, contents: Contents) -> dict[str, Any]:
        """Stacks and segmentations of a study, as JSON."""
        # Bytes never change under a path; what happens to an object on its way does.
        key = tuple((each.path, each.produced) for each in contents.held)
        made = self._kept.get(key, lambda: _scene(contents.held))
        earlier = contents.earlier
        prior = (
            None
            if earlier is None
            else {"study": earlier.study_uid, "date": earlier.date, "compared": earlier.compared}
        )
        return {"study": contents.study_uid, "date": contents.date, "prior": prior, **made}


def reports(held: Sequence[Holding]) -> list[tuple[Holding, Report]]:
    """Structured reports of a study, those of this node's last run first."""
    wanted = [each for each in held if each.modality == "SR"]
    wanted.sort(key=lambda each: -(each.produced.job_id if each.produced is not None else 0))
    found = [(each, _report(each)) for each in wanted]
    return [(holding, report) for holding, report in found if report is not None]


def _report(holding: Holding) -> Report | None:
    """A report; None where it cannot be read."""
    try:
        return report_of(read_stored(holding.path)[0])
    except HTTPException:
        return None


def _scene(held: Sequence[Holding]) -> dict[str, Any]:
    lost: list[str] = []
    stacks = stacks_of(held, lost)
    overlays, unreadable = [], []
    for each in (one for one in held if one.modality == "SEG"):
        described = _overlay(each, stacks)
        if described is None:
            unreadable.append(each.sop_instance_uid)
        else:
            overlays.append(described)
    overlays.sort(key=lambda each: (-each["run"], each["sop"]))
    return {
        "stacks": [each.described() for each in stacks],
        "overlays": overlays,
        "unreadable": unreadable,
        "lost": lost,
    }


def _overlay(holding: Holding, stacks: Sequence[Stack]) -> dict[str, Any] | None:
    """A segmentation as the page needs it; None where it cannot be read."""
    try:
        overlay = read_overlay(holding)
        return None if overlay is None else overlay.described(stacks)
    except (HTTPException, *READ_ERRORS):
        return None
