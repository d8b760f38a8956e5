"""What a request is refused with: a status and a sentence that says what to do instead."""

from __future__ import annotations

from typing import NoReturn

from fastapi import HTTPException

from node.archive.placing import checked_uid
from node.errors import ObjectRejected

BAD_REQUEST = 400
FORBIDDEN = 403
NOT_FOUND = 404
NOT_ACCEPTABLE = 406
CONFLICT = 409
GONE = 410
TOO_LARGE = 413
UNSUPPORTED_MEDIA_TYPE = 415
UNAVAILABLE = 503


def refuse(status: int, words: str, **headers: str) -> NoReturn:
    """Answer with a status of failure and why.

    Raises
    ------
    HTTPException
        In any case.
    """
    raise HTTPException(status, words, headers=headers or None)


def required_uid(value: str, what: str) -> str:
    """A UID from a path or a query.

    Raises
    ------
    HTTPException
        400: it is none (PS3.5 9.1).
    """
    try:
        return checked_uid(value, what)
    except ObjectRejected:
        refuse(BAD_REQUEST, f"{what} is not a UID (PS3.5 9.1): at most 64 digits and dots")
