"""The index of similar studies, on SQLite and PostgreSQL: best first, by model, forgetful, and about nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from models.similar import SimilarIndex, ranked
from node.archive import similar
from node.archive.engine import Store
from node.archive.tables import similar_embeddings

pytest_plugins = ["tests.store_fixtures"]

ONE, TWO = "a" * 64, "b" * 64


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def test_the_most_alike_come_first_and_models_are_kept_apart(store: Store) -> None:
    with store.write() as connection:
        index: SimilarIndex = similar.StoredIndex(connection, 0.0, keep_days=10)
        for name, vector in (("k1", unit(1, 0)), ("k2", unit(1, 0.2)), ("k3", unit(1, 1)), ("k4", unit(-1, 0))):
            index.add(name, ONE, vector)
        index.add("k5", TWO, unit(1, 0))
        found = index.nearest("k1", ONE, limit=5, minimum_cosine=0.5)
        assert [each.study_key for each in found] == ["k2", "k3"]
        assert found[0].cosine == pytest.approx(1 / np.sqrt(1.04), abs=1e-6)
        assert [each.study_key for each in index.nearest("k1", ONE, limit=1, minimum_cosine=0.5)] == ["k2"]
        assert index.nearest("k5", TWO, limit=5, minimum_cosine=0.0) == []
        assert index.nearest("unknown", ONE, limit=5, minimum_cosine=0.0) == []
        # Seen again, a study has one vector, the newer.
        index.add("k2", ONE, unit(0, 1))
        assert [each.study_key for each in index.nearest("k1", ONE, limit=5, minimum_cosine=0.5)] == ["k3"]
        assert similar.count(connection) == 5


def test_forgotten_by_study_and_by_time(store: Store) -> None:
    with store.write() as connection:
        index = similar.StoredIndex(connection, 0.0, keep_days=1)
        for name in ("k1", "k2", "k3"):
            index.add(name, ONE, unit(1, 0))
        assert index.forget("k2") == 1 and index.forget("k2") == 0
        assert [each.study_key for each in index.nearest("k1", ONE, limit=5, minimum_cosine=0.5)] == ["k3"]
        later = similar.StoredIndex(connection, 90000.0, keep_days=1)
        assert later.nearest("k1", ONE, limit=5, minimum_cosine=0.5) == []
        assert similar.forget_expired(connection, 90000.0) == 2
        index.add("k1", ONE, unit(1, 0))
        assert similar.forget_all(connection) == 1 and similar.count(connection) == 0


def test_keys_tell_nothing_without_the_sites_secret(store: Store, tmp_path: Path) -> None:
    uid = "1.2.840.99.7"
    here, there = similar.study_key(tmp_path / "a", uid), similar.study_key(tmp_path / "b", uid)
    assert here == similar.study_key(tmp_path / "a", uid) != there
    with store.write() as connection:
        similar.StoredIndex(connection, 0.0, keep_days=1).add(here, ONE, unit(1, 2))
        (row,) = connection.execute(select(similar_embeddings)).all()
    assert set(row._mapping) == {"id", "study_key", "model_digest", "vector", "expires_at"}
    assert uid not in str(row._mapping) and np.frombuffer(row.vector, "<f4").tolist() == unit(1, 2).tolist()


def test_vectors_of_another_length_are_passed_over() -> None:
    assert ranked(unit(1, 0), [("a", unit(1, 0, 0)), ("b", np.zeros(2, np.float32))], limit=5, minimum_cosine=0.1) == []
