"""The one description of the database's schema that every table belongs to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISION = "0014"
"""Migration these tables correspond to; ``ainode serve`` and ``ainode db upgrade`` bring a database to it."""

Serial = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column that is exactly INTEGER, and uses the number of a deleted row again unless
told AUTOINCREMENT."""
