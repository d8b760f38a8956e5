"""Pages of the console, one module each."""

from __future__ import annotations

from fastapi import FastAPI

from node.web.console import Console
from node.web.pages.account import account_router
from node.web.pages.audit import audit_router
from node.web.pages.destinations import destinations_router
from node.web.pages.models import models_router
from node.web.pages.people import people_router
from node.web.pages.rules import rules_router
from node.web.pages.studies import studies_router, study_actions_router
from node.web.pages.system import system_router
from node.web.pages.today import today_router
from node.web.permission import Access


def add_pages(app: FastAPI, console: Console, access: Access) -> None:
    """Add every page."""
    makers = (
        *(today_router, studies_router, study_actions_router, destinations_router, models_router),
        *(rules_router, system_router, audit_router, people_router),
    )
    for maker in makers:
        app.include_router(maker(console))
    app.include_router(account_router(console, access))
