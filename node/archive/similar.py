"""The index of similar studies of this hospital. It never leaves this database.

Made anonymous where it is written: what stands here of a study is a key that only this site's secret gives again, the
vector, the model, and when it is to be forgotten. No name, number or date of anybody can be read from it.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, delete, func, select

from models.similar import Similar, Vector, ranked
from node.archive.tables import similar_embeddings as rows
from node.site_secret import site_key

_PURPOSE = "similar studies"
_DAY = 86400.0


def study_key(data_dir: Path, study_uid: str) -> str:
    """The key of a study in the index."""
    return hmac.new(site_key(data_dir, _PURPOSE), study_uid.encode("utf-8"), hashlib.sha256).hexdigest()


class StoredIndex:
    """The index over one connection; :class:`models.similar.SimilarIndex`.

    Parameters
    ----------
    connection : Connection
        In a transaction of the caller's.
    now : float
        Seconds since the epoch.
    keep_days : float
        How long what is added is kept.
    """

    def __init__(self, connection: Connection, now: float, *, keep_days: float) -> None:
        self._connection, self._now, self._keep_days = connection, now, keep_days

    def add(self, study_key: str, model_digest: str, vector: Vector) -> None:
        """Keep the vector of a study, in the place of an older one of the same model."""
        same = (rows.c.study_key == study_key) & (rows.c.model_digest == model_digest)
        self._connection.execute(delete(rows).where(same))
        values = {
            "study_key": study_key,
            "model_digest": model_digest,
            "vector": np.ascontiguousarray(vector, "<f4").tobytes(),
            "expires_at": self._now + self._keep_days * _DAY,
        }
        self._connection.execute(rows.insert().values(**values))

    def nearest(self, study_key: str, model_digest: str, *, limit: int, minimum_cosine: float) -> list[Similar]:
        """The studies most alike to one that is in the index, best first, without itself; none where it is not there."""
        found = self._connection.execute(
            select(rows.c.study_key, rows.c.vector).where(
                rows.c.model_digest == model_digest, rows.c.expires_at > self._now
            )
        ).all()
        vectors = {row.study_key: np.frombuffer(row.vector, "<f4") for row in found}
        own = vectors.pop(study_key, None)
        if own is None:
            return []
        return ranked(own, list(vectors.items()), limit=limit, minimum_cosine=minimum_cosine)

    def models_of(self, study_key: str) -> list[str]:
        """Digests of the models whose vector of a study is here."""
        digests = select(rows.c.model_digest).where(rows.c.study_key == study_key, rows.c.expires_at > self._now)
        return list(self._connection.execute(digests.order_by(rows.c.model_digest)).scalars())

    def forget(self, study_key: str) -> int:
        """Remove every vector of a study; how many there were."""
        return self._connection.execute(delete(rows).where(rows.c.study_key == study_key)).rowcount


def forget_expired(connection: Connection, now: float) -> int:
    """Remove what is past its time; how many there were."""
    return connection.execute(delete(rows).where(rows.c.expires_at <= now)).rowcount


def forget_all(connection: Connection) -> int:
    """Empty the index; how many there were."""
    return connection.execute(delete(rows)).rowcount


def count(connection: Connection) -> int:
    """How many vectors there are."""
    return int(connection.execute(select(func.count()).select_from(rows)).scalar_one())
