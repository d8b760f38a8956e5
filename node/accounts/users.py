"""Users in the store: made, changed, disabled, recognised by name and passcode. Every change stands in the ledger."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from node.accounts.roles import Role
from node.archive import ledger
from node.archive.tables import api_tokens, user_sessions, users
from node.errors import AccountUnusable

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, for the ledger: a user of the console, or an account of the operating system.

    Attributes
    ----------
    via : str
        ``console``, ``api`` or ``command line``.
    address : str
        Network address; empty on the command line.
    """

    name: str
    via: str
    role: str = ""
    address: str = ""

    def facts(self) -> dict[str, Any]:
        """For a row of the ledger."""
        return {"by": self.name, "role": self.role, "via": self.via, "address": self.address}


def normalised(name: str) -> str:
    """A user name as it is kept: lower case.

    Raises
    ------
    AccountUnusable
        It has other characters than names have.
    """
    lowered = name.strip().lower()
    if not _NAME.fullmatch(lowered):
        raise AccountUnusable("a user name has 1 to 64 of the characters a-z, 0-9, '.', '_', '@', '-'")
    return lowered


def find(connection: Connection, name: str) -> Row[Any] | None:
    """Row of a user, by name in any case; None where there is none."""
    return connection.execute(select(users).where(users.c.name == name.strip().lower())).one_or_none()


def existing(connection: Connection, name: str) -> Row[Any]:
    """Row of a user.

    Raises
    ------
    AccountUnusable
        There is none.
    """
    found = find(connection, name)
    if found is None:
        raise AccountUnusable("there is no user of this name")
    return found


def listed(connection: Connection) -> list[Row[Any]]:
    """Every user, by name."""
    return list(connection.execute(select(users).order_by(users.c.name)))


def any_exists(connection: Connection) -> bool:
    """Whether somebody can sign in at all."""
    return connection.execute(select(users.c.id).limit(1)).first() is not None


def add(connection: Connection, now: float, name: str, role: Role, passcode_hash: str, *, by: Actor) -> None:
    """Make a local user.

    Parameters
    ----------
    passcode_hash : str
        From :func:`node.accounts.secrets.hash_passcode`, made before the transaction: it takes its time.

    Raises
    ------
    AccountUnusable
        The name is taken or unfit.
    """
    name = normalised(name)
    if find(connection, name) is not None:
        raise AccountUnusable(f"there is a user {name} already")
    values = {"name": name, "role": str(role), "passcode_hash": passcode_hash}
    connection.execute(insert(users).values(**values, created_at=now, passcode_at=now))
    _record(connection, now, "added", name, by, new_role=str(role))


def set_passcode(connection: Connection, now: float, name: str, passcode_hash: str, *, by: Actor) -> None:
    """Give a local user another passcode, hashed as for :func:`add`: ends his sessions, unlocks him."""
    row = existing(connection, name)
    if row.provider != "local":
        raise AccountUnusable(f"{row.name} signs on at the hospital's sign-on and has no passcode here")
    _set(connection, row.id, passcode_hash=passcode_hash, passcode_at=now, failures=0, locked_until=0.0)
    end_sessions(connection, row.id)
    _record(connection, now, "passcode changed", row.name, by)


def set_role(connection: Connection, now: float, name: str, role: Role, *, by: Actor) -> None:
    """Give a user another role; sessions go on with the lower of both.

    Raises
    ------
    AccountUnusable
        Nobody would be left who may manage users, or the hospital's sign-on says the role.
    """
    row = existing(connection, name)
    if row.provider != "local":
        raise AccountUnusable(f"the role of {row.name} comes from the hospital's sign-on")
    if role is not Role.ADMINISTRATOR:
        _not_the_last(connection, row)
    _set(connection, row.id, role=str(role))
    _record(connection, now, "role changed", row.name, by, new_role=str(role))


def set_disabled(connection: Connection, now: float, name: str, *, disabled: bool, by: Actor) -> None:
    """Lock a user out for good, or let him in again. His sessions end; his tokens are of no use meanwhile.

    Raises
    ------
    AccountUnusable
        Nobody would be left who may manage users.
    """
    row = existing(connection, name)
    if disabled:
        _not_the_last(connection, row)
        end_sessions(connection, row.id)
    _set(connection, row.id, disabled_at=now if disabled else None, failures=0, locked_until=0.0)
    _record(connection, now, "disabled" if disabled else "enabled", row.name, by)


def set_totp(connection: Connection, now: float, name: str, sealed: str | None, *, by: Actor) -> None:
    """Switch the second factor on (a sealed secret) or off (None)."""
    row = existing(connection, name)
    _set(connection, row.id, totp_secret=sealed, totp_step=0)
    _record(connection, now, "second factor on" if sealed else "second factor off", row.name, by)


def from_provider(connection: Connection, now: float, subject: str, wanted: str, role: Role) -> Row[Any]:
    """The user whom the hospital's sign-on knows by ``subject``; made at the first sign-on, with the role it says.

    A name that somebody else has here gets the beginning of a hash of the subject: nobody becomes a local user by
    being called like one.
    """
    known = (users.c.provider == "oidc") & (users.c.subject == subject)
    row = connection.execute(select(users).where(known)).one_or_none()
    if row is None:
        name = _free_name(connection, wanted, subject)
        connection.execute(
            insert(users).values(name=name, role=str(role), provider="oidc", subject=subject, created_at=now)
        )
        _record(connection, now, "added", name, Actor("sign-on", "oidc"), new_role=str(role))
    elif row.role != role:
        _set(connection, row.id, role=str(role))
        _record(connection, now, "role changed", row.name, Actor("sign-on", "oidc"), new_role=str(role))
    return connection.execute(select(users).where(known)).one()


def _free_name(connection: Connection, wanted: str, subject: str) -> str:
    import hashlib

    name = re.sub(r"[^a-z0-9._@-]", "-", wanted.strip().lower())[:48].lstrip("._@-") or "user"
    if find(connection, name) is None:
        return name
    return f"{name}-{hashlib.sha256(subject.encode()).hexdigest()[:12]}"


def end_sessions(connection: Connection, user_id: int) -> int:
    """End every session of a user; return how many there were."""
    return int(connection.execute(delete(user_sessions).where(user_sessions.c.user_id == user_id)).rowcount)


def tokens_of(connection: Connection) -> list[Row[Any]]:
    """Every token that was not revoked, with its owner's name as ``owner``."""
    statement = select(api_tokens, users.c.name.label("owner")).join(users, users.c.id == api_tokens.c.user_id)
    return list(connection.execute(statement.where(api_tokens.c.revoked_at.is_(None)).order_by(api_tokens.c.id)))


def _not_the_last(connection: Connection, row: Row[Any]) -> None:
    if row.role != Role.ADMINISTRATOR or row.disabled_at is not None:
        return
    usable = (users.c.role == str(Role.ADMINISTRATOR)) & users.c.disabled_at.is_(None) & (users.c.provider == "local")
    others = select(func.count()).select_from(users).where(usable, users.c.id != row.id)
    if row.provider == "local" and not connection.execute(others).scalar_one():
        raise AccountUnusable(f"{row.name} is the last local administrator; make another one before")


def _set(connection: Connection, user_id: int, **values: Any) -> None:
    connection.execute(update(users).where(users.c.id == user_id).values(**values))


def _record(connection: Connection, now: float, what: str, name: str, by: Actor, **detail: Any) -> None:
    ledger.record(connection, now, ledger.Kind.PERSON_ACCOUNT, what=what, user=name, **by.facts(), **detail)
