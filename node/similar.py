"""Similar studies of this hospital: a run's vector is kept, and looked up when somebody asks. Nothing leaves the node."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection

from node.archive.similar import StoredIndex, study_key
from node.settings import Settings


def keep(
    connection: Connection, settings: Settings, study_uid: str, model_digest: str, vector: Sequence[float]
) -> None:
    """Keep what a run's model made of a study, where the index is enabled."""
    section = settings.similar
    if not section.enabled or not len(vector):
        return
    index = StoredIndex(connection, time.time(), keep_days=section.keep_days)
    index.add(study_key(settings.data_dir, study_uid), model_digest, np.array(vector, np.float32))


def listed(connection: Connection, settings: Settings, study_uid: str) -> list[dict[str, Any]]:
    """The most alike studies by each model that has seen this one: ``model``, ``study``, ``cosine``; keys are cut short."""
    section = settings.similar
    index = StoredIndex(connection, time.time(), keep_days=section.keep_days)
    key = study_key(settings.data_dir, study_uid)
    return [
        {"model": digest[:12], "study": each.study_key[:16], "cosine": round(each.cosine, 4)}
        for digest in index.models_of(key)
        for each in index.nearest(key, digest, limit=section.limit, minimum_cosine=section.minimum_cosine)
    ]


def told(found: Sequence[dict[str, Any]]) -> str:
    """Lines for the story of a study; empty where there are none."""
    lines = [f"  {each['study']}  cosine {each['cosine']:.3f}  by model {each['model']}" for each in found]
    return "\n".join(["similar studies of this hospital (keys, no names; seen here only):", *lines]) if lines else ""
