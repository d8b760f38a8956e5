"""Table of the index of similar studies."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from node.archive.tables.schema import metadata

# Nothing here names a patient, a study or a day of a study: node/archive/similar.py.
similar_embeddings = Table(
    "similar_embeddings",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("study_key", String(64), nullable=False),  # HMAC of the Study Instance UID under the site's secret
    Column("model_digest", String(64), nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little endian, of length one
    Column("expires_at", Float, nullable=False),
    UniqueConstraint("study_key", "model_digest"),
    Index(None, "model_digest"),
    Index(None, "expires_at"),
    sqlite_autoincrement=True,
)
