"""Passcodes and tokens: how they are made, and what of them is kept.

Passcodes are kept as Argon2id hashes with the parameters of the first choice of RFC 9106 section 4 scaled down to memory
that a small server has (64 MiB). Tokens are 256 random bits, so that a plain SHA-256 of them gives nothing away.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from node.errors import AccountUnusable

MINIMUM_LENGTH = 12
MAXIMUM_LENGTH = 256
TOKEN_PREFIX = "ainode_"
"""Of API tokens, so that a scanner for leaked secrets knows one when it sees it."""

_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=2)
# Of 256 random bits that nobody kept: compared with where a name is unknown, so that the time taken does not tell who
# exists. Made with the parameters above and written down, because making one is a sixth of a second of every start.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=2$5yXvb7nh/dT1B2Cgp1DQFA$UWz1oBgRjsg+aYDOFFIw8kMhz52/dc1rUzK4PvySNLc"
# So many at once take a core and 64 MiB each, whoever knocks.
_TURNS = threading.BoundedSemaphore(2)


def hash_passcode(passcode: str, *, name: str) -> str:
    """Hash of a new passcode.

    Raises
    ------
    AccountUnusable
        It is too short, too long, or holds the user's name.
    """
    if not MINIMUM_LENGTH <= len(passcode) <= MAXIMUM_LENGTH:
        raise AccountUnusable(
            f"a passcode has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters; a sentence is a good one"
        )
    if name.casefold() in passcode.casefold():
        raise AccountUnusable("a passcode must not hold the user's name")
    if len(set(passcode)) < 5:
        raise AccountUnusable("a passcode needs at least five different characters")
    with _TURNS:
        return _HASHER.hash(passcode)


def passcode_fits(passcode: str, hashed: str | None) -> bool:
    """Whether a passcode belongs to a hash; takes as long where there is no hash."""
    if len(passcode) > MAXIMUM_LENGTH:
        return False
    with _TURNS:
        try:
            _HASHER.verify(hashed or _NOBODY, passcode)
        except (Argon2Error, InvalidHashError):
            return False
    return hashed is not None


def new_token(prefix: str = "") -> str:
    """A token of 256 random bits, fit for a cookie or a header."""
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> str:
    """What is kept of a token: SHA-256, hex."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
