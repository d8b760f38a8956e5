"""Whether another installed distribution owns a package name of this product."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from node.errors import NameConflict

PACKAGES = ("node", "models", "dicom_sr")
_TOP_LEVEL = "top_level.txt"
_OURS = "ainode"


def check(search_path: Iterable[str] | None = None) -> None:
    """Look through the installed distributions and at what Python would import.

    Only names are compared and no metadata is parsed, so that it costs milliseconds.

    Raises
    ------
    NameConflict
        Naming the distribution, or the folder from which a foreign package would be imported.
    """
    for folder in dict.fromkeys(sys.path if search_path is None else search_path):
        for owner in _foreign_owners(Path(folder or ".")):
            raise NameConflict(f"the distribution {owner} installs a package with a name of this product")
    home = Path(__file__).resolve().parent.parent
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != home / package:
            raise NameConflict(f"the package {package} would be imported from {found}, not from {home / package}")


def _foreign_owners(folder: Path) -> Iterable[str]:
    try:
        entries = list(os.scandir(folder)) if folder.is_dir() else []
    except OSError:
        return
    for entry in entries:
        name = entry.name
        if not name.endswith((".dist-info", ".egg-info")) or name.lower().startswith(_OURS) or not entry.is_dir():
            continue
        if _claims(Path(entry.path)):
            yield name.rsplit(".", 1)[0]


def _claims(info: Path) -> bool:
    """Whether ``top_level.txt``, or the list of installed files where it is absent, names one of our packages."""
    try:
        return not set((info / _TOP_LEVEL).read_text(encoding="utf-8").split()).isdisjoint(PACKAGES)
    except OSError:
        pass  # many build tools write none
    try:
        lines = (info / "RECORD").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(line.startswith(tuple(f"{package}/__init__.py" for package in PACKAGES)) for line in lines)
