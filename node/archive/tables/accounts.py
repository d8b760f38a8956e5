"""Tables of who may use the console: users, their sessions, tokens of programs. Secrets stand here only as hashes."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from node.archive.tables.schema import Serial, metadata

users = Table(
    "users",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),  # node.accounts.roles.Role
    Column("provider", String(16), nullable=False, default="local"),  # local, oidc
    Column("subject", Text),  # the provider's own name of the person; null: a local user
    Column("passcode_hash", Text),  # Argon2id; null: signs on elsewhere
    Column("created_at", Float, nullable=False),
    Column("passcode_at", Float),  # when the passcode was set last
    Column("signed_in_at", Float),
    Column("disabled_at", Float),
    Column("failures", Integer, nullable=False, default=0),  # wrong passcodes since the last right one
    Column("locked_until", Float, nullable=False, default=0.0),
    Column("totp_secret", Text),  # sealed with the site's key; null: no second factor
    Column("totp_step", Integer, nullable=False, default=0),  # time step of the code used last: none is good twice
    UniqueConstraint("provider", "subject"),
    sqlite_autoincrement=True,
)

user_sessions = Table(
    "user_sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),  # SHA-256 of the cookie's value
    Column("user_id", Serial, ForeignKey("users.id"), nullable=False),
    Column("role", String(16), nullable=False),  # at sign-in; the lower of this and the user's counts
    Column("address", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("user_id", Serial, ForeignKey("users.id"), nullable=False),
    Column("name", String(64), nullable=False),  # what it is for
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("revoked_at", Float),
    Index(None, "user_id"),
    sqlite_autoincrement=True,
)
