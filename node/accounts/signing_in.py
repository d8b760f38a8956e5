"""Whether somebody is who he says: name, passcode and code, with a lock after wrong ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, update

from node.accounts import totp
from node.accounts.secrets import passcode_fits
from node.accounts.users import find
from node.archive import ledger
from node.archive.engine import Store
from node.archive.tables import users
from node.errors import SignInRefused, TooManyAttempts

FREE_FAILURES = 5
"""Wrong passcodes before an account is locked for a while."""
_FIRST_LOCK_SECONDS = 30.0
_LONGEST_LOCK_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user who has shown who he is."""

    user_id: int
    name: str
    role: str


def sign_in(store: Store, now: float, name: str, passcode: str, code: str, *, address: str, key: bytes) -> SignedIn:
    """Recognise a local user. What was wrong is not told, and takes the same time.

    Parameters
    ----------
    code : str
        Code of the second factor; looked at only where the user has one.
    key : bytes
        The site's key that seals secrets of second factors.

    Raises
    ------
    SignInRefused
        Name, passcode or code is wrong, or the account is disabled.
    TooManyAttempts
        The account is locked for a while.
    """
    with store.read() as connection:
        row = find(connection, name)
    # Locked or not, known or not: the hash is computed, outside of any transaction.
    fits = passcode_fits(passcode, row.passcode_hash if row is not None else None)
    with store.write() as connection:
        row = find(connection, name)
        if row is None:
            ledger.record(connection, now, ledger.Kind.PERSON_REFUSED, why="no such user", address=address)
            locked = False
        elif locked := row.locked_until > now:
            _refuse(connection, now, row, "locked", address)
        elif not fits or row.disabled_at is not None or not _code_fits(connection, now, row, code, key):
            _count(connection, now, row, fits, address)
        else:
            return _welcome(connection, now, row, address)
    # Raised here, so that what was counted and recorded is not rolled back.
    if locked:
        raise TooManyAttempts("this account is locked for some minutes")
    raise SignInRefused


def note_sign_on(connection: Connection, now: float, row: Row[Any], *, address: str) -> SignedIn | None:
    """Enter a user whom the hospital's sign-on has recognised; None where the account is disabled here."""
    if row.disabled_at is not None:
        _refuse(connection, now, row, "disabled", address)
        return None
    return _welcome(connection, now, row, address)


def _code_fits(connection: Connection, now: float, row: Row[Any], code: str, key: bytes) -> bool:
    if row.totp_secret is None:
        return True
    step = totp.step_of(totp.unseal(row.totp_secret, key), code, now)
    if step is None or step <= row.totp_step:
        return False
    connection.execute(update(users).where(users.c.id == row.id).values(totp_step=step))
    return True


def _count(connection: Connection, now: float, row: Row[Any], fits: bool, address: str) -> None:
    failures = row.failures + 1
    locked_until = 0.0
    if failures >= FREE_FAILURES:
        wait = min(_FIRST_LOCK_SECONDS * 2.0 ** (failures - FREE_FAILURES), _LONGEST_LOCK_SECONDS)
        locked_until = now + wait
    values = {"failures": failures, "locked_until": locked_until}
    connection.execute(update(users).where(users.c.id == row.id).values(**values))
    why = "disabled" if row.disabled_at is not None else "wrong code" if fits else "wrong passcode"
    _refuse(connection, now, row, why, address)


def _refuse(connection: Connection, now: float, row: Row[Any], why: str, address: str) -> None:
    ledger.record(connection, now, ledger.Kind.PERSON_REFUSED, by=row.name, why=why, address=address)


def _welcome(connection: Connection, now: float, row: Row[Any], address: str) -> SignedIn:
    values = {"failures": 0, "locked_until": 0.0, "signed_in_at": now}
    connection.execute(update(users).where(users.c.id == row.id).values(**values))
    ledger.record(
        connection,
        now,
        ledger.Kind.PERSON_SIGNED_IN,
        by=row.name,
        role=row.role,
        provider=row.provider,
        second_factor=row.totp_secret is not None,
        address=address,
    )
    return SignedIn(row.id, row.name, row.role)
