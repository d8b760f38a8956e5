"""Whether a file is still the one that was read."""

from __future__ import annotations

from pathlib import Path


def file_state(path: Path) -> tuple[int, int, int] | None:
    """Something that differs whenever the file was changed or replaced; None where it is not there."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
