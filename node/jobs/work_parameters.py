"""What beyond model and images decides about a result, as it enters the work key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from node.jobs.specification import JobSpec, Prior, RunAccount


def work_parameters(spec: JobSpec) -> dict[str, str]:
    """Result-affecting settings beyond the card; what a result is compared with and what it replaces are among them."""
    parameters = dict(spec.parameters)
    for name, value in (("replaces", spec.predecessor), ("prior", spec.prior), ("retracts", spec.retraction)):
        if value is not None:
            facts = value.model_dump(mode="json")
            if isinstance(value, Prior):
                # Where on this machine the files lie changes nothing.
                facts = {**facts, "files": len(value.files), "segmentation": value.segmentation is not None}
                facts["stored"] = value.stored.digest if value.stored else None
            parameters[name] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if spec.accounts is not None:
        parameters["accounts"] = accounts_digest(spec.accounts)
    if spec.request is not None:
        parameters["request"] = f"{spec.request.digest} {spec.request.follow}"
    for name, setting, usual in (("contradictions", spec.contradictions, "block"), ("question", spec.question, "none")):
        if setting != usual:
            parameters[name] = setting
    # What the order says is content, and so is what is said of the study before the model runs.
    if spec.procedures:
        parameters["order"] = json.dumps([asdict(each) for each in spec.procedures], sort_keys=True)
    if spec.corrected:
        parameters["corrected"] = json.dumps(spec.corrected, sort_keys=True)
    if spec.limitations:
        parameters["limitations"] = " ".join(spec.limitations)
    return parameters


def accounts_digest(accounts: Sequence[RunAccount]) -> str:
    """Hex SHA-256 over what runs came to: a combined status of the same says nothing new."""
    facts = [each.model_dump(mode="json", exclude={"stored": {"path"}}) for each in accounts]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
