"""A stored result is the result, byte for byte reproducible, and never code."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from models.errors import StoredResultDamaged
from models.results import (
    Change,
    Comparison,
    Finding,
    HeatMap,
    Laterality,
    LesionChange,
    Mark,
    MarkShape,
    Tracking,
)
from models.stored_result import Grid, StoredResult, dump, load
from tests.generators.results import ABNORMAL, BRAIN, MILLILITRE, MODEL, VOLUME, found, not_assessed


def _everything() -> StoredResult:
    mask = np.zeros((3, 8, 9), np.uint8)
    mask[1, 2:5, 3:6], mask[2, 6:, 7:] = 1, 2
    result = found(mask, 0.25)
    finding = Finding(ABNORMAL, 1.0, None, True, BRAIN, Laterality.LEFT)
    tracking = Tracking("2.25.7", "Infarct core 1")
    rng = np.random.default_rng(1)
    assert result.segmentation is not None
    probability = rng.random(mask.shape, np.float32)
    result = replace(
        result,
        segmentation=replace(result.segmentation, probability_zyx=probability),
        findings=(finding,),
        marks=(Mark("dwi", MarkShape.BOX, 1, ((1.0, 2.0), (3.0, 4.5)), "here", finding),),
        heat_maps=(HeatMap("dwi", probability * 2, VOLUME, MILLILITRE, "map"),),
        comparison=Comparison(
            "1.2", "1.3", "1.4", "1.5", "20260101", 3.0, 2.0, Change.LARGER,
            (LesionChange(tracking, "Infarct core 1", 3.0, None, Change.NEW),),
        ),
        evidence={"nested": {"numbers": [1, 2.5, None]}},
    )  # fmt: skip
    return StoredResult(result, "dwi", MODEL, Grid(np.diag([4.5, 5.0, 10.0, 1.0]), (3, 8, 9), "1.2.3"))


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    if type(one) is not type(other):
        return [f"{path}: {type(one)} and {type(other)}"]
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)
        return [] if same else [path]
    if is_dataclass(one):
        return [d for f in fields(one) for d in _differences(getattr(one, f.name), getattr(other, f.name), f.name)]
    if isinstance(one, tuple | list):
        if len(one) != len(other):
            return [f"{path}: {len(one)} and {len(other)}"]
        return [d for n, (a, b) in enumerate(zip(one, other, strict=True)) for d in _differences(a, b, f"{path}[{n}]")]
    return [] if one == other else [path]


def test_comes_back_as_it_was_in_the_same_bytes() -> None:
    stored = _everything()
    content = dump(stored)
    assert _differences(load(content), stored) == []
    assert dump(load(content)) == content


def test_a_refusal_comes_back() -> None:
    stored = StoredResult(not_assessed())
    assert _differences(load(dump(stored)), stored) == []


def _with(content: bytes, name: str, body: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        for each in old.namelist():
            new.writestr(each, body if each == name else old.read(each))
    return target.getvalue()


def test_what_is_no_stored_result_is_refused() -> None:
    content = dump(_everything())
    objects = io.BytesIO()
    np.save(objects, np.array([{"code": print}], object), allow_pickle=True)
    document = json.loads(zipfile.ZipFile(io.BytesIO(content)).read("result.json"))
    document["stored"]["result"]["title"] = 7
    damaged = [
        b"",
        content[: len(content) // 2],
        _with(content, "array0.npy", objects.getvalue()),
        _with(content, "result.json", b'{"format": 99}'),
        _with(content, "result.json", json.dumps(document).encode()),
    ]
    for each in damaged:
        with pytest.raises(StoredResultDamaged):
            load(each)
