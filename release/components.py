"""What is shipped: each distribution with its version, licence and digest, out of wheels or out of an environment."""

from __future__ import annotations

import email
import hashlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|OFL)[^/]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Component:
    """One distribution.

    Attributes
    ----------
    name, version : str
    metadata : Message or mapping
        Core metadata (packaging.python.org/specifications/core-metadata).
    sha256 : str
        Of the wheel; empty for an installed distribution.
    licence_texts : mapping
        File name → text.
    """

    name: str
    version: str
    metadata: Any = field(repr=False)
    sha256: str = ""
    licence_texts: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Normalised name."""
        return str(canonicalize_name(self.name))

    @property
    def purl(self) -> str:
        """Package URL (github.com/package-url/purl-spec)."""
        return f"pkg:pypi/{self.key}@{self.version.replace('+', '%2B')}"

    def requirements(self, extras: Iterable[str] = ()) -> Iterator[Requirement]:
        """What it needs on this platform."""
        for text in self.metadata.get_all("Requires-Dist") or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                yield requirement


def from_wheel(path: Path) -> Component:
    """Read one wheel, without unpacking or running anything of it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (name,) = [each for each in names if each.count("/") == 1 and each.endswith(".dist-info/METADATA")]
        found: Message = email.message_from_bytes(archive.read(name))
        texts = {
            each.rpartition("/")[2]: archive.read(each).decode("utf-8", errors="replace")
            for each in names
            if ".dist-info/" in each and _LICENCE_FILE.search(each)
        }
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Component(str(found["Name"]), str(found["Version"]), found, digest, texts)


def from_wheels(folder: Path) -> list[Component]:
    """Every wheel of a folder, by name."""
    return sorted((from_wheel(path) for path in folder.glob("*.whl")), key=lambda each: each.key)


def installed_closure(name: str, extras: Iterable[str] = ()) -> list[Component]:
    """A distribution of this environment and everything it needs to run, by name.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        Something of it is not installed.
    """
    found: dict[str, Component] = {}
    waiting = [(name, tuple(extras))]
    while waiting:
        wanted, wanted_extras = waiting.pop()
        key = str(canonicalize_name(wanted))
        if key not in found:
            found[key] = _installed(wanted)
        elif not wanted_extras:
            continue
        for requirement in found[key].requirements(wanted_extras):
            if str(canonicalize_name(requirement.name)) not in found or requirement.extras:
                waiting.append((requirement.name, tuple(requirement.extras)))
    return [found[key] for key in sorted(found)]


def _installed(name: str) -> Component:
    distribution = metadata.distribution(name)
    texts = {}
    for file in distribution.files or []:
        if ".dist-info/" in str(file) and _LICENCE_FILE.search(str(file)):
            try:
                texts[file.name] = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue  # listed and not there: an environment put together by hand
    return Component(distribution.metadata["Name"], distribution.version, distribution.metadata, "", texts)
