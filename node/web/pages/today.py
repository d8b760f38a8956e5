"""The first page: what is expected, arriving, running, delivered, and what needs somebody."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from node.archive import pauses
from node.archive.engine import Store
from node.expectations import Expectation, expectations
from node.monitor.alarms import Standing, standing_alarms
from node.settings import Settings
from node.site_time import midnight
from node.web.console import Console
from node.web.overview import MOST_NEEDING, Stage, StudyLine, latest, needing_somebody, study_lines, underway
from node.web.permission import Person, Role, permit

_MOST_EXPECTED = 100
_DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Today:
    """What the first page shows."""

    stages: dict[str, list[StudyLine]]
    expected: list[Expectation]
    overdue: int
    paused: list[str]
    alarms: list[Standing]
    more_needing: bool

    def count(self, stage: str) -> int:
        """Studies in a stage."""
        return len(self.stages.get(stage, []))


def today(store: Store, settings: Settings, now: float) -> Today:
    """Read it. The cost grows with what is under way, not with what there is."""
    begin = midnight(now)
    with store.read() as connection:
        needing, waiting, newest = needing_somebody(connection), underway(connection), latest(connection)
        lines = study_lines(connection, list(dict.fromkeys([*needing, *waiting, *newest])))
        entries = expectations(connection, now, begin, begin + _DAY_SECONDS - 1.0, settings, limit=_MOST_EXPECTED)
        stopped = [f"{row.scope} {row.name}".strip() for row in pauses.active(connection)]
    stages: dict[str, list[StudyLine]] = {str(stage): [] for stage in Stage}
    for line in lines:
        stages[line.stage].append(line)
    coming = [entry for entry in entries if entry.state in ("expected", "overdue")]
    overdue = sum(entry.state == "overdue" for entry in coming)
    return Today(stages, coming, overdue, stopped, standing_alarms(settings.data_dir), len(needing) >= MOST_NEEDING)


def today_router(console: Console) -> APIRouter:
    """``/``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    def first(request: Request, person: Annotated[Person, Depends(permit(Role.VIEWER))]) -> Response:
        found = today(console.store, console.settings, time.time())
        return console.page(request, person, "today.html", today=found, worklists=bool(console.settings.worklist))

    return router
