"""The licence gate: what may be shipped with an Apache-2.0 product, and the NOTICE that goes with it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from release.components import Component

# SPDX identifier → why it may be shipped.
ALLOWED = {
    "Apache-2.0": "the product's own",
    "MIT": "permissive",
    "MIT-CMU": "permissive (the historical licence of Pillow)",
    "0BSD": "permissive",
    "MIT-0": "permissive, without even the notice",
    "BSD-2-Clause": "permissive",
    "BSD-3-Clause": "permissive",
    "ISC": "permissive",
    "Zlib": "permissive",
    "PSF-2.0": "permissive",
    "CC0-1.0": "public domain",
    "MPL-2.0": "weak copyleft by file; shipped unchanged, its source is the wheel itself",
    "OFL-1.1": "fonts; may be embedded and bundled",
}

_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

# Distributions whose metadata say it in words of their own; read in the licence file named.
_READ = {
    "charset-normalizer": "MIT",
    "flatbuffers": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "tqdm": "MPL-2.0 AND MIT",
}

FORBIDDEN = re.compile(
    r"\bA?GPL|General Public License|SSPL|Commons Clause|Elastic|BUSL|non-?commercial", re.IGNORECASE
)


def licence_of(component: Component) -> str:
    """SPDX expression of a component's licence; empty where its metadata do not tell."""
    if expression := component.metadata.get("License-Expression"):
        return str(expression)
    classified = [
        str(each).rpartition("::")[2].strip()
        for each in component.metadata.get_all("Classifier") or []
        if str(each).startswith("License ::")
    ]
    known = [_CLASSIFIERS[each] for each in classified if each in _CLASSIFIERS]
    if known and len(known) == len(classified):
        return " AND ".join(sorted(set(known)))
    if component.key in _READ and not classified:
        return _READ[component.key]
    return " AND ".join(classified)


def objections(components: Iterable[Component]) -> list[str]:
    """Why a set of components must not be shipped; empty where it may."""
    found = []
    for component in components:
        licence = licence_of(component)
        terms = [each for each in re.split(r"\s+(?:AND|OR)\s+|[()]", licence) if each]
        if not terms:
            found.append(f"{component.name} {component.version}: no licence in its metadata")
        elif FORBIDDEN.search(licence):
            found.append(f"{component.name} {component.version}: {licence} may not be shipped")
        elif unknown := [each for each in terms if each not in ALLOWED]:
            found.append(f"{component.name} {component.version}: {', '.join(unknown)} is on no list; decide about it")
    return found


def notice(components: Iterable[Component]) -> str:
    """The text of NOTICE: every component, its licence, and the licence's own words."""
    parts = [
        "ainode\nCopyright The ainode authors\nLicensed under the Apache License, Version 2.0 (see LICENSE).\n\n"
        "It is shipped with the works of others. Each is named here with its licence; the licences' texts follow.\n"
    ]
    listed = [each for each in components if each.key != "ainode"]
    parts.append("\n".join(f"{each.name} {each.version}: {licence_of(each)}" for each in listed) + "\n")
    for each in listed:
        for name, text in sorted(each.licence_texts.items()):
            parts.append(f"{'=' * 100}\n{each.name} {each.version}, {name}\n\n{text.strip()}\n")
    return "\n".join(parts)
