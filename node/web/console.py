"""What every page is made with: settings, store, templates, the language and colours of who looks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates
from sqlalchemy import Row

from models.remedies import remedies
from models.report_facts import format_ml, format_range
from node.accounts.sessions import Person
from node.archive.engine import Store
from node.jobs.progress import Progress, ProgressBoard
from node.manual import product_errors
from node.settings import Settings
from node.site_time import iso, stamp, zone
from node.web.phrases import LANGUAGES, Phrases, best_language

HERE = Path(__file__).parent
LANGUAGE_COOKIE = "ainode-language"
THEME_COOKIE = "ainode-theme"
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Console:
    """Shared by all pages; nothing of it changes."""

    settings: Settings
    store: Store
    templates: Jinja2Templates
    phrases: Phrases
    remedies: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Console:
        """Make it, with the templates' filters."""
        templates = Jinja2Templates(directory=HERE / "templates")
        templates.env.filters["moment"] = stamp
        templates.env.filters["iso"] = iso
        templates.env.filters["millilitres"] = format_ml
        templates.env.filters["between"] = format_range
        templates.env.globals["zone"] = zone
        templates.env.trim_blocks = templates.env.lstrip_blocks = True
        english = {error.code: error.remedy for error in product_errors()}
        return cls(settings, store, templates, Phrases(), english)

    def progress(self, row: Row[Any]) -> Progress | None:
        """How far the text of a run is; None unless one is being made."""
        return ProgressBoard(self.settings.data_dir).of(row.id, state=row.state, started_at=row.started_at)

    def remedies_in(self, language: str) -> Mapping[str, str]:
        """What to do, by error code; English where there is no translation."""
        return {**self.remedies, **remedies(language)}

    def language_of(self, request: Request) -> str:
        """Chosen before, else what the browser asks for, else what the site says."""
        chosen = request.cookies.get(LANGUAGE_COOKIE, "")
        if chosen in LANGUAGES:
            return chosen
        site = self.settings.web.language or self.settings.node.language
        return best_language(request.headers.get("Accept-Language", ""), site)

    def page(self, request: Request, person: Person | None, name: str, *, status: int = 200, **facts: Any) -> Response:
        """Render a template for who looks."""
        language = self.language_of(request)
        theme = request.cookies.get(THEME_COOKIE, "auto")
        query = urlencode([pair for pair in request.query_params.multi_items() if pair[0] != "said"])
        path = request.url.path + (f"?{query}" if query else "")
        context = {
            "node": self.settings.node.name,
            "version": version("ainode"),
            "person": person,
            "language": language,
            "languages": LANGUAGES,
            "theme": theme if theme in THEMES else "auto",
            "t": functools.partial(self.phrases.say, language),
            "path": path if request.method == "GET" else "/",
            "said": request.query_params.get("said", ""),
            "remedies": self.remedies_in(language),
            "revision": getattr(request.state, "revision", 0),
            **facts,
        }
        return self.templates.TemplateResponse(request, name, context, status_code=status)


def back_to(path: str, said: str = "", anchor: str = "") -> Response:
    """Send the browser on after a form, with one of the phrases of ``said.html``."""
    query = f"?{urlencode({'said': said})}" if said else ""
    return RedirectResponse(f"{path}{query}{f'#{anchor}' if anchor else ''}", 303)


def local_path(path: str) -> str:
    """A path of this console, ``/`` for anything else: nobody is sent elsewhere by a link of ours."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if safe else "/"
