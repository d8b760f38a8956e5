"""Sessions of people and tokens of programs. Only hashes of what they show are kept."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from node.accounts.roles import Role, lower
from node.accounts.secrets import TOKEN_PREFIX, new_token, token_hash
from node.accounts.signing_in import SignedIn
from node.accounts.users import Actor, existing
from node.archive import ledger
from node.archive.engine import Store
from node.archive.tables import api_tokens, user_sessions, users
from node.errors import AccountUnusable

_NOTE_SECONDS = 30.0
"""A use is noted so often at most: reading a page is not to cost a write each time."""
LONGEST_TOKEN_DAYS = 366.0


@dataclass(frozen=True, slots=True)
class Person:
    """Who sends a request.

    Attributes
    ----------
    session : str
        Cookie of the session; empty for a program with a token.
    """

    user_id: int
    name: str
    role: Role
    address: str
    session: str = ""

    @property
    def actor(self) -> Actor:
        """For the ledger."""
        return Actor(self.name, "console" if self.session else "api", str(self.role), self.address)

    @property
    def form_token(self) -> str:
        """What forms of this session carry, so that no other page can send one (CSRF)."""
        return form_token(self.session)


def form_token(secret: str) -> str:
    """Token of the forms that belong to a cookie."""
    return hmac.new(secret.encode("utf-8"), b"form", hashlib.sha256).hexdigest()


def begin(connection: Connection, now: float, who: SignedIn, *, address: str, hours: float) -> str:
    """Begin a session; return what its cookie holds. Sessions that are over are removed at this occasion."""
    connection.execute(delete(user_sessions).where(user_sessions.c.expires_at < now))
    token = new_token()
    connection.execute(
        insert(user_sessions).values(
            token_hash=token_hash(token),
            user_id=who.user_id,
            role=who.role,
            address=address,
            created_at=now,
            seen_at=now,
            expires_at=now + hours * 3600.0,
        )
    )
    return token


def end(connection: Connection, now: float, person: Person) -> None:
    """End a session."""
    connection.execute(delete(user_sessions).where(user_sessions.c.token_hash == token_hash(person.session)))
    ledger.record(connection, now, ledger.Kind.PERSON_SIGNED_OUT, **person.actor.facts())


def of_cookie(
    store: Store, now: float, cookie: str, *, address: str, idle_seconds: float, by_hand: bool = True
) -> Person | None:
    """Whose session a cookie belongs to; None where it is unknown, over, or its user disabled.

    Parameters
    ----------
    by_hand : bool
        Whether the request shows that somebody is there; a page that refreshes itself does not.
    """
    hashed = token_hash(cookie)
    statement = (
        select(user_sessions, users.c.name, users.c.role.label("user_role"), users.c.disabled_at)
        .join(users, users.c.id == user_sessions.c.user_id)
        .where(user_sessions.c.token_hash == hashed)
    )
    with store.read() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None or row.disabled_at is not None or row.expires_at <= now or row.seen_at + idle_seconds <= now:
        return None
    if by_hand and row.seen_at + min(_NOTE_SECONDS, idle_seconds / 4) <= now:
        with store.write() as connection:
            chosen = user_sessions.c.token_hash == hashed
            connection.execute(update(user_sessions).where(chosen).values(seen_at=now))
    return Person(row.user_id, row.name, lower(Role(row.role), Role(row.user_role)), address, cookie)


def new_api_token(
    connection: Connection, now: float, owner: str, name: str, role: Role, *, days: float, by: Actor
) -> str:
    """Make a token for a program; it is returned once and never again.

    Raises
    ------
    AccountUnusable
        Its owner may less than it, or it would be good for too long.
    """
    row = existing(connection, owner)
    if row.disabled_at is not None or not Role(row.role).covers(role):
        raise AccountUnusable(f"{row.name} is no {role} and can have no token that is one")
    if not 0 < days <= LONGEST_TOKEN_DAYS:
        raise AccountUnusable(f"a token is good for at most {LONGEST_TOKEN_DAYS:.0f} days")
    name = " ".join(name.split())[:64]
    if not name:
        raise AccountUnusable("say what the token is for")
    token = new_token(TOKEN_PREFIX)
    connection.execute(
        insert(api_tokens).values(
            user_id=row.id,
            name=name,
            token_hash=token_hash(token),
            role=str(role),
            created_at=now,
            expires_at=now + days * 86400.0,
        )
    )
    facts: dict[str, Any] = {
        "what": "token made",
        "user": row.name,
        "token": name,
        "token_role": str(role),
        "days": days,
    }
    ledger.record(connection, now, ledger.Kind.PERSON_ACCOUNT, **facts, **by.facts())
    return token


def revoke_api_token(connection: Connection, now: float, number: int, *, by: Actor) -> None:
    """End a token.

    Raises
    ------
    AccountUnusable
        There is none of this number that is still good.
    """
    standing = (api_tokens.c.id == number) & api_tokens.c.revoked_at.is_(None)
    if not connection.execute(update(api_tokens).where(standing).values(revoked_at=now)).rowcount:
        raise AccountUnusable(f"there is no token {number}")
    facts: dict[str, Any] = {"what": "token revoked", "token_number": number}
    ledger.record(connection, now, ledger.Kind.PERSON_ACCOUNT, **facts, **by.facts())


def of_api_token(store: Store, now: float, token: str, *, address: str) -> Person | None:
    """Whose program shows a token; None where it is unknown, over or revoked, or its owner disabled."""
    if not token.startswith(TOKEN_PREFIX):
        return None
    statement = (
        select(api_tokens, users.c.name.label("owner"), users.c.role.label("user_role"), users.c.disabled_at)
        .join(users, users.c.id == api_tokens.c.user_id)
        .where(api_tokens.c.token_hash == token_hash(token))
    )
    with store.read() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None or not _good(row, now):
        return None
    if (row.used_at or 0.0) + _NOTE_SECONDS <= now:
        with store.write() as connection:
            connection.execute(update(api_tokens).where(api_tokens.c.id == row.id).values(used_at=now))
    return Person(row.user_id, row.owner, lower(Role(row.role), Role(row.user_role)), address)


def _good(row: Row[Any], now: float) -> bool:
    return row.revoked_at is None and row.disabled_at is None and row.expires_at > now
