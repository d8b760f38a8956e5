"""OAuth 2.0 client credentials (RFC 6749 4.4): a bearer token, fetched when needed, kept until it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx

from node.dicom.passcodes import read_passcode
from node.errors import UsersUnusable, WebNotAuthorised
from node.settings import OAuthSection

# A token is not used in its last seconds: it would end under way.
_LEEWAY_SECONDS = 15.0
# RFC 6749 5.1 only recommends expires_in.
_UNSTATED_SECONDS = 60.0
_UNAUTHORISED = 401


class ClientCredentials(httpx.Auth):
    """Puts a bearer token on each request; one that is refused is fetched anew, once.

    Parameters
    ----------
    section : OAuthSection
    post : callable
        ``post(url, data=…, auth=…)`` → httpx.Response: sends the token request, over a client of its own.
    """

    requires_response_body = False

    def __init__(self, section: OAuthSection, post: Any) -> None:
        self._section = section
        self._post = post
        self._guard = threading.Lock()
        self._token = ""
        self._until = 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """As httpx asks for it.

        Raises
        ------
        WebNotAuthorised
            The token endpoint gives no token.
        """
        token = self._current()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == _UNAUTHORISED:
            self._forget(token)
            request.headers["Authorization"] = f"Bearer {self._current()}"
            yield request

    def _current(self) -> str:
        with self._guard:
            if not self._token or time.monotonic() >= self._until:
                self._token, lifetime = self._fetch()
                self._until = time.monotonic() + lifetime
            return self._token

    def _forget(self, token: str) -> None:
        with self._guard:
            if self._token == token:
                self._token = ""

    def _fetch(self) -> tuple[str, float]:
        section = self._section
        form = {"grant_type": "client_credentials", **({"scope": section.scope} if section.scope else {})}
        identity = (section.client_id, _secret(section.client_secret_file))
        try:
            response = self._post(section.token_url, data=form, auth=identity)
            answer = response.json() if response.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise WebNotAuthorised(f"{section.token_url}: gives no token ({type(error).__name__})") from error
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if response.status_code != httpx.codes.OK or not isinstance(token, str) or not token:
            reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise WebNotAuthorised(
                f"{section.token_url}: gives no token (HTTP {response.status_code} {reason})".replace(" )", ")"),
                status=response.status_code,
            )
        return token, max(1.0, _seconds(answer.get("expires_in")) - _LEEWAY_SECONDS)


def _secret(path: Path) -> str:
    try:
        return read_passcode(path).decode("utf-8")
    except (UsersUnusable, UnicodeDecodeError) as error:
        raise WebNotAuthorised(f"client_secret_file: {path} cannot be used") from error


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return _UNSTATED_SECONDS
