"""The second factor: time-based one-time codes (RFC 6238), as authenticator apps make them.

The secret is kept sealed with a key of the site's secret file, so that a copy of the database alone makes no codes.
"""

from __future__ import annotations

import base64
import hmac

import pyotp
from cryptography.fernet import Fernet, InvalidToken

from node.errors import AccountUnusable

STEP_SECONDS = 30
_DRIFT_STEPS = 1  # clocks of telephones
PURPOSE = "second factor"
"""Purpose of the site key that seals secrets."""


def new_secret() -> str:
    """A secret of 160 bits in base32."""
    return pyotp.random_base32()


def address_of(secret: str, *, name: str, issuer: str) -> str:
    """The ``otpauth:`` address an authenticator app takes."""
    return pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=issuer)


def step_of(secret: str, code: str, now: float) -> int | None:
    """Time step a code belongs to, one before or after included; None where it is not right."""
    generator = pyotp.TOTP(secret)
    current = int(now // STEP_SECONDS)
    given = "".join(code.split())
    fitting = [
        step
        for step in range(current - _DRIFT_STEPS, current + _DRIFT_STEPS + 1)
        if hmac.compare_digest(generator.generate_otp(step).encode(), given.encode("utf-8", "replace"))
    ]
    return fitting[-1] if fitting else None


def seal(secret: str, key: bytes) -> str:
    """A secret for the store; ``key`` has 32 bytes."""
    return _fernet(key).encrypt(secret.encode("ascii")).decode("ascii")


def unseal(sealed: str, key: bytes) -> str:
    """The secret.

    Raises
    ------
    AccountUnusable
        It was sealed with another key.
    """
    try:
        return _fernet(key).decrypt(sealed.encode("ascii")).decode("ascii")
    except InvalidToken as error:
        raise AccountUnusable(
            "the second factor was sealed with another secret.key; switch it off with `ainode user totp NAME --off`"
        ) from error


def _fernet(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))
