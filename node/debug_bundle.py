"""A run as a file for a model's engineer: arrays, geometry, card, versions and result, and nothing that says whose they are.

No DICOM attribute goes in but what :data:`_NUMBERS` and :data:`_WORDS` name. The arrays are the images, though: a head has a
face, and a radiograph may have words burnt in. Whoever passes a bundle on decides about that.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from dicom_sr.identity import ENCODER_VERSION
from dicom_sr.marks import boxes, narrowed, read_marks
from dicom_sr.roles import fill_roles
from dicom_sr.series import load_study
from models.card import CARD_FILE, Family
from models.errors import NodeError
from models.lineage import told_members
from models.model import Model
from models.prompts import BoxPrompt
from models.registry import Registry
from models.results import StudyResult
from models.volume import Volume
from node.errors import NotStored, UsageError
from node.jobs.looking_back import EARLIER_IMAGES, earlier_volumes, seen_digest
from node.jobs.specification import JobSpec, StoredFile
from node.jobs.stored_files import read_stored

MANIFEST, FORMAT = "bundle.json", 2
_NUMBERS = ("b_value", "field_strength_t", "patient_age_years", "maximum_value", "spacing_known")
_WORDS = ("modality", "body_part", "view", "derived", "contrast")
_PLAIN = re.compile(r"[A-Za-z0-9_ ]{1,16}")
_UID = re.compile(r"\d+(?:\.\d+){4,}")
_OLDEST = 89.0
"""Years; above, age is identifying (45 CFR 164.514(b)(2)) and this is given instead."""
_LIBRARIES = ("ainode", "numpy", "scipy", "SimpleITK", "pydicom", "onnxruntime", "onnxruntime-gpu")
_MOMENT = (1980, 1, 1, 0, 0, 0)


def write_bundle(spec: JobSpec, registry: Registry, job: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write the bundle of a job.

    Parameters
    ----------
    spec : JobSpec
        Of the run.
    job : mapping
        ``state``, ``error_code``, ``message`` and ``result`` of the job's row.
    out : Path
        New file (zip).

    Returns
    -------
    dict
        The manifest, as it stands in the file.

    Raises
    ------
    UsageError
        The file exists, or the job is of a kind that cannot be replayed from arrays.
    NotStored
        The earlier image the run looked at is not here any more.
    """
    if out.exists():
        raise UsageError(f"{out} exists; name a new file")
    if spec.question != "none":
        raise UsageError(
            "this run answered a question: its words are a person's and may name the patient, so they go into no bundle, and "
            "without them nothing can be replayed"
        )
    result = _stored(job.get("result"))
    ran = result and registry.with_digest(spec.model_id, result.model.digest)
    model = ran or registry.get(spec.model_id)
    if model.card.family is Family.EXTERNAL:
        raise UsageError(
            f"{model.card.id} takes files, not arrays; give its maker the images by the way your site has for that"
        )
    volumes, prompts, refusal = _volumes(spec, model)
    if refusal is None:
        volumes |= _earlier(spec, model, result)
    manifest = {
        "format": FORMAT,
        "model": _ran(result, model),
        "parameters": dict(spec.parameters),
        "inputs": {role: _described(volume) for role, volume in volumes.items()},
        "prompts": None if prompts is None else [asdict(each) for each in prompts],
        "refused_before_the_model": refusal,
        "result": None if result is None else summary_of(result),
        "failure": _said(job.get("error_code"), job.get("message")),
        "state": job.get("state"),
        "versions": versions(),
    }
    arrays = {f"{role}.npz": _packed(volume) for role, volume in volumes.items()}
    card = (model.folder / CARD_FILE).read_bytes()
    with zipfile.ZipFile(out, "x", zipfile.ZIP_STORED) as bundle:
        for name, content in ((MANIFEST, json.dumps(manifest, indent=1).encode()), (CARD_FILE, card), *arrays.items()):
            bundle.writestr(zipfile.ZipInfo(name, _MOMENT), content)
    return manifest


def summary_of(result: StudyResult) -> dict[str, Any]:
    """What is compared of a result: no text, no UID."""
    found = result.segmentation
    return {
        "outcome": result.outcome.value,
        "total_ml": result.total_ml,
        "regions": [[each.label, each.volume_ml] for each in found.regions] if found else [],
        "findings": [[each.concept.meaning, each.probability, each.present] for each in result.findings],
        "mask_sha256": hashlib.sha256(found.mask_zyx.tobytes()).hexdigest() if found else None,
        "refusal": result.refusal.code if result.refusal else None,
        "provider": result.model.provider,
        "digest": result.model.digest,
        "members": told_members(result.model.parameters),
    }


def _ran(result: StudyResult | None, model: Model) -> dict[str, str]:
    """What made the result; its files may be others now, or gone."""
    made = model.reference({}) if result is None else result.model
    return {"id": made.model_id, "version": made.version, "digest": made.digest}


def versions() -> dict[str, str]:
    """Of what computes a result here."""
    known = {"python": platform.python_version(), "machine": platform.machine(), "encoder": str(ENCODER_VERSION)}
    for name in _LIBRARIES:
        try:
            known[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # one of the two builds of a runtime is never there
    return known


def _volumes(spec: JobSpec, model: Model) -> tuple[dict[str, Volume], list[BoxPrompt] | None, dict[str, str] | None]:
    """Inputs, what was drawn on them (None where nobody drew), and why there are none."""
    try:
        study = load_study(spec.files, corrected=spec.corrected)
        if spec.request is None:
            return {role: each.volume for role, each in fill_roles(study, model.card.inputs).items()}, None, None
        drawn = dcmread(spec.request.path)
        sources = fill_roles(narrowed(study, drawn), model.card.inputs)
        marks = read_marks(drawn)
        prompts = list(boxes(marks, sources[model.card.inputs[0].role], follow=spec.request.follow))
    except NodeError as error:
        return {}, None, _said(error.code, error.message)
    return {role: each.volume for role, each in sources.items()}, prompts, None


def _earlier(spec: JobSpec, model: Model, result: StudyResult | None) -> dict[str, Volume]:
    """The earlier image the run looked at, where it did: that one or none at all.

    Raises
    ------
    NotStored
        It is gone, or another has come in its place.
    """
    looked_at = result.evidence.get(EARLIER_IMAGES) if result is not None else None
    if result is not None and looked_at is None:
        return {}
    found = earlier_volumes(spec.earlier, load_study(spec.files, corrected=spec.corrected), model.card.inputs)
    if looked_at is not None and (spec.earlier is None or not found or seen_digest(spec.earlier) != looked_at):
        raise NotStored(
            "the run looked at an earlier image of the patient that is not here any more, or not as it was; without it the run "
            "cannot be replayed. Have both studies sent again and retry the job, then make the bundle of that"
        )
    return found


def _described(volume: Volume) -> dict[str, Any]:
    facts: dict[str, Any] = {name: float(volume.facts[name]) for name in _NUMBERS if name in volume.facts}
    if "patient_age_years" in facts:
        facts["patient_age_years"] = min(facts["patient_age_years"], _OLDEST)
    for name in _WORDS:
        if _PLAIN.fullmatch(str(volume.facts.get(name, ""))):
            facts[name] = str(volume.facts[name])
    return {
        "shape_zyx": list(volume.array_zyx.shape),
        "affine_lps": volume.affine_lps.tolist(),
        "unit": volume.unit,
        "facts": facts,
    }


def _packed(volume: Volume) -> bytes:
    stream = io.BytesIO()
    arrays: dict[str, Any] = {"array_zyx": volume.array_zyx, "affine_lps": volume.affine_lps}
    if volume.colour is not None:
        arrays["colour"] = volume.colour
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _stored(row: Mapping[str, Any] | None) -> StudyResult | None:
    """The stored result; the job's own row holds texts, which may say more than they should."""
    if not row or not row.get("stored"):
        return None
    return read_stored(StoredFile.model_validate(row["stored"])).result


def _said(code: str | None, message: str | None) -> dict[str, str] | None:
    """An error's code and words, without UIDs."""
    return {"code": code, "message": _UID.sub("UID", message or "")} if code else None
