"""The version of what is built: pyproject.toml's, and between releases how many commits and which one."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path


def version_of(tree: Path) -> str:
    """A version by PEP 440 that grows with every commit: ``0.1.0`` at its tag, ``0.1.0+723.gabc1234`` elsewhere."""
    base = str(tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    if _git(tree, "tag", "--points-at", "HEAD", f"v{base}"):
        return base
    count, commit = _git(tree, "rev-list", "--count", "HEAD"), _git(tree, "rev-parse", "--short=8", "HEAD")
    return f"{base}+{count}.g{commit}" if count else base


def _git(tree: Path, *words: str) -> str:
    """What git says; nothing where this is no repository."""
    try:
        done = subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    print(version_of(Path(__file__).resolve().parent.parent))
