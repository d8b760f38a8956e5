"""Studies: lists, stories, hold and release."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from node import actions
from node.web.api.asked import HoldAsked
from node.web.api.schemas import Done, Event, SeriesOf, Story, Studies, Study
from node.web.api.work import delivery_of, job_of
from node.web.console import Console
from node.web.overview import StudyLine
from node.web.pages.studies import Operator, Viewer
from node.web.study_list import LONGEST_PAGE, StudyFilter, study_page
from node.web.study_view import study_view

StudyUid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$", description="Study Instance UID")]


def studies_api_router(console: Console) -> APIRouter:
    """``/studies``."""
    router = APIRouter(tags=["studies"])
    settings, store = console.settings, console.store

    @router.get("/studies")
    def studies(
        person: Viewer,
        state: Literal["waiting", "provisional", "complete"] | None = None,
        accession: Annotated[str, Query(max_length=64, description="Accession number or Study Instance UID")] = "",
        since: Annotated[float | None, Query(description="Last image from then on")] = None,
        until: Annotated[float | None, Query(description="… and before then")] = None,
        held: bool | None = None,
        needs_somebody: bool = False,
        after: Annotated[str, Query(max_length=128, description="`following` of the page before")] = "",
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 50,
    ) -> Studies:
        """Studies, the latest news first."""
        wanted = StudyFilter(state or "", accession, since, until, held, needs_somebody)
        with store.read() as connection:
            page = study_page(connection, wanted, after=after, limit=limit)
        return Studies(studies=[study_of(line) for line in page.lines], following=page.following)

    @router.get("/studies/{study_uid}")
    def story(person: Viewer, study_uid: StudyUid) -> Story:
        """The whole story of a study."""
        with store.read() as connection:
            view = study_view(connection, study_uid)
        return Story(
            study=study_of(view.line),
            held_reason=view.held_reason,
            series=[SeriesOf.model_validate(each) for each in view.series],
            jobs=[job_of(row, console) for row in view.runs],
            deliveries=[delivery_of(row) for row in view.deliveries],
            events=[Event.model_validate(each) for each in view.events],
        )

    @router.post("/studies/{study_uid}/hold")
    def hold(person: Operator, study_uid: StudyUid, asked: HoldAsked) -> Done:
        """Hold a study: its runs are cancelled, nothing runs on it."""
        before = actions.hold(settings, store, study_uid, asked.reason, by=person.actor)
        return Done(done=before is None, detail=before or "")

    @router.post("/studies/{study_uid}/release")
    def release(person: Operator, study_uid: StudyUid) -> Done:
        """Release a held study."""
        released, left_out = actions.release(settings, store, study_uid, by=person.actor)
        return Done(done=released, detail=f"{left_out} image(s) left out" if left_out else "")

    return router


def study_of(line: StudyLine) -> Study:
    """A line of a list as the API says it."""
    return Study.model_validate(line)
