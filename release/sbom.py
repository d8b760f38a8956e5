"""The software bill of materials: CycloneDX 1.5 as JSON (cyclonedx.org/docs/1.5/json)."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from release.components import Component, from_wheels, installed_closure
from release.licences import licence_of

_NAMESPACE = uuid.UUID("7c1c3a0e-7b0e-5d53-9d0c-7d5f0f6a2f4e")


def bill_of_materials(components: Iterable[Component], *, moment: datetime | None = None) -> dict[str, Any]:
    """Describe a set of components, one of which is ``ainode``.

    The serial number follows from the components, so that one set has one.
    """
    listed = {each.key: each for each in components}
    main = listed["ainode"]
    serial = uuid.uuid5(_NAMESPACE, "\n".join(f"{each.purl} {each.sha256}" for each in listed.values()))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**_described(main), "type": "application"},
        },
        "components": [_described(each) for key, each in listed.items() if key != "ainode"],
        "dependencies": [{"ref": each.purl, "dependsOn": sorted(_needed(each, listed))} for each in listed.values()],
    }


def _described(component: Component) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": component.purl,
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "licenses": [{"expression": licence_of(component)}],
    }
    if summary := component.metadata.get("Summary"):
        found["description"] = str(summary)
    if component.sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": component.sha256}]
    return found


def _needed(component: Component, listed: dict[str, Component]) -> set[str]:
    keys = {str(canonicalize_name(each.name)) for each in component.requirements()}
    return {listed[key].purl for key in keys if key in listed}


def main(arguments: list[str]) -> int:
    """``python -m release.sbom [FOLDER OF WHEELS]``: print the bill of a bundle, or of this environment."""
    components = from_wheels(Path(arguments[0])) if arguments else installed_closure("ainode")
    print(json.dumps(bill_of_materials(components), indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
