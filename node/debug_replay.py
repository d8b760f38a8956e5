"""Runs the model again on the arrays of a debug bundle, on whatever machine, and says what is different."""

from __future__ import annotations

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import NodeError, Refused
from models.lineage import lineage
from models.prompts import BoxPrompt
from models.registry import Registry
from models.results import Outcome, StudyResult
from models.room_on_device import where_there_is_room
from models.volume import Volume
from node.debug_bundle import FORMAT, MANIFEST, summary_of, versions
from node.errors import UsageError

_MAXIMUM_BYTES = 8 << 30
_TOLERANCE = 1e-6
_NOT_COMPARED = ("message", "provider", "digest", "members")  # where it ran, and what ``same_model`` says


def replay(path: Path, registry: Registry) -> dict[str, Any]:
    """Run a bundle.

    Returns
    -------
    dict
        ``then`` and ``now`` (summaries, or the error's code), ``differences`` (names of what is not equal; empty where the
        run came out as before), ``same_model``, ``versions`` (those that differ, then and now).

    Raises
    ------
    UsageError
        The file is no bundle.
    ModelNotFound
        The model is not installed here.
    """
    manifest, volumes = _read(path)
    ran = manifest["model"]
    model = registry.with_digest(ran["id"], ran["digest"]) or registry.get(ran["id"])
    then = manifest["result"] or manifest["refused_before_the_model"] or manifest["failure"] or {}
    if manifest["refused_before_the_model"]:
        now = then  # no model was asked, and there is nothing to ask one about
    else:
        try:
            prompts = manifest.get("prompts")

            def run() -> StudyResult:
                if prompts is None:
                    return model.run(volumes, manifest["parameters"])
                return model.segment(volumes, [BoxPrompt(**each) for each in prompts], manifest["parameters"])

            now = summary_of(where_there_is_room(lambda: lineage(model, standing_in=True), run))
        except Refused as error:
            nothing: dict[str, Any] = {"total_ml": None, "regions": [], "findings": [], "mask_sha256": None}
            now = {"outcome": Outcome.NOT_ASSESSED.value, **nothing, "refusal": error.code}
        except NodeError as error:
            now = {"code": error.code, "message": error.message}
    here = versions()
    different = [key for key in then if key not in _NOT_COMPARED and not _alike(then[key], now.get(key))]
    return {
        "then": then,
        "now": now,
        "differences": different if then else ["nothing was recorded to compare with"],
        "same_model": model.digest == manifest["model"]["digest"] and _same_members(then, now),
        "versions": {
            name: [old, here.get(name)] for name, old in manifest["versions"].items() if here.get(name) != old
        },
    }


def _same_members(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Of a chain; where one of both does not tell, it is not held against it."""
    return bool(then.get("members", now.get("members")) == now.get("members", then.get("members")))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Volume]]:
    try:
        with zipfile.ZipFile(path) as bundle:
            if sum(each.file_size for each in bundle.infolist()) > _MAXIMUM_BYTES:
                raise UsageError(f"{path} is too large for a bundle")
            manifest = json.loads(bundle.read(MANIFEST))
            if manifest["format"] not in (1, FORMAT):
                raise UsageError(f"{path} has format {manifest['format']}; this release reads 1 and {FORMAT}")
            volumes = {role: _volume(bundle.read(f"{role}.npz"), about) for role, about in manifest["inputs"].items()}
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is no debug bundle ({type(error).__name__})") from error
    return manifest, volumes


def _volume(content: bytes, about: dict[str, Any]) -> Volume:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        colour = arrays.get("colour")
        return Volume(arrays["array_zyx"], arrays["affine_lps"], about["unit"], dict(about["facts"]), colour)


def _alike(then: Any, now: Any) -> bool:
    """Equal, numbers to a millionth: another processor adds in another order."""
    if isinstance(then, list) and isinstance(now, list):
        return len(then) == len(now) and all(_alike(*pair) for pair in zip(then, now, strict=True))
    if isinstance(then, float) and isinstance(now, float):
        return math.isclose(then, now, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(then == now)
