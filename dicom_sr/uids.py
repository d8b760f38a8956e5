"""Names of results: the same work gets the same UIDs, other work gets others.

Every UID has the form of PS3.5 B.2: ``2.25.`` and the decimal value of a UUID, here of the name-based kind.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence

from dicom_sr.identity import ENCODER_VERSION, NodeIdentity
from models.results import ModelReference

_NAMESPACE = uuid.UUID("8f6f1c1e-6f0b-5a59-9a3f-3f6a54b1f0d2")


def _uid(*parts: str) -> str:
    # NUL cannot occur in any part, so no two different lists of parts give one name.
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"


def _model(reference: ModelReference | None) -> dict[str, object] | None:
    if reference is None:
        return None
    return {
        "id": reference.model_id,
        "version": reference.version,
        "digest": reference.digest,
        "provider": reference.provider,
        "parameters": dict(reference.parameters),
    }


def work_key(
    *,
    digests: Mapping[str, str],
    identity: NodeIdentity,
    model: ModelReference,
    parameters: Mapping[str, str],
    report_model: ModelReference | None,
    languages: Sequence[str],
    profile: str,
    run: int,
) -> str:
    """Key of one piece of work.

    Parameters
    ----------
    digests : mapping
        SOP Instance UID → data-set digest of every input instance.
    identity : NodeIdentity
        Only what stands in the objects counts; all of it does.
    parameters : mapping
        Result-affecting settings beyond the card (rule overrides).
    profile : str
        Name and content of the destination profile.
    run : int
        1 for the first run; n+1 after a deletion or a late image.

    Returns
    -------
    str
        Hexadecimal SHA-256. Equal arguments give equal keys whatever the order of the mappings.
    """
    facts = {
        "encoder": ENCODER_VERSION,
        "inputs": sorted(digests.items()),
        "node": [
            identity.device_uid,
            identity.name,
            identity.serial_number,
            identity.software_version,
            identity.institution,
            identity.timezone_offset,
        ],
        "model": _model(model),
        "parameters": sorted(parameters.items()),
        "report_model": _model(report_model),
        "languages": list(languages),
        "profile": profile,
        "run": run,
    }
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def result_uid(key: str, role: str, ordinal: int = 0) -> str:
    """UID of a thing this work makes: an instance, a series, a tracked region, a dimension organisation.

    Parameters
    ----------
    key : str
        Value of :func:`work_key`.
    role : str
        What it is the UID of, e.g. ``"seg"``, ``"seg/series"``, ``"tracking"``.
    ordinal : int
        Distinguishes several of one role.
    """
    return _uid("result", key, role, str(ordinal))


def model_device_uid(digest: str) -> str:
    """Device UID of a model: a function of its weights, so a retrained model is another device (IHE AIR 6.5.3.1)."""
    return _uid("model", digest)
