"""Language and colours, remembered in cookies that say nothing else."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from node.web.console import LANGUAGE_COOKIE, THEME_COOKIE, THEMES, Console, local_path
from node.web.phrases import LANGUAGES

_REMEMBERED_SECONDS = 365 * 86400


def preferences_router(console: Console) -> APIRouter:
    """``/preferences``: plain links, so that they work before anybody has signed in."""
    router = APIRouter(include_in_schema=False)

    @router.get("/preferences")
    def prefer(language: str = "", theme: str = "", back: str = "/") -> Response:
        answer = RedirectResponse(local_path(back), 303)
        for name, value, known in ((LANGUAGE_COOKIE, language, LANGUAGES), (THEME_COOKIE, theme, THEMES)):
            if value in known:
                answer.set_cookie(
                    name,
                    value,
                    max_age=_REMEMBERED_SECONDS,
                    httponly=True,
                    samesite="lax",
                    secure=console.settings.web.secure,
                )
        return answer

    return router
