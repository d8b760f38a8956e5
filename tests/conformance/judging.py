"""How others' programs are asked about objects, and which of their complaints say nothing about ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.peers import require

# Device UID is in General Equipment and SOP Common (PS3.3 C.7.5.1, C.12-1); dciodvfy does not know it there.
KNOWN = (r"\(0x0018,0x1002\) UI Device UID", r"this is a Standard Extended SOP Class")
ENTITY_KNOWN = (r"Element=<AccessionNumber> IE <Series> versus <Study>",)

UNCERTAINTY = re.compile(r"Error: Template (1419|300) .*/\[Row \d+\] NUM \*/\[Row (9|10|13|14)\] NUM \*: ")
"""PixelMed takes every NUM below a NUM for the source measurements of TID 300 (rows 9, 10; 13, 14 of TID 1419) and wants
INFERRED FROM; a measurement uncertainty is row 5 of TID 310, HAS PROPERTIES."""


def run(*command: object) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


def complaints(text: str, pattern: str, allowed: Sequence[str]) -> list[str]:
    lines = [line for line in text.splitlines() if re.match(pattern, line)]
    return [line for line in lines if not any(re.search(known, line) for known in allowed)]


def judge() -> Path:
    path = SHARED / "conformance" / "conform.py"
    if not path.is_file():
        pytest.skip("the shared judge is not here")
    require("java")
    return path


def verdict(sources: Path | str, results: Path, *, java: bool = True) -> list[str]:
    """Failures the judge reports; without ``java`` PixelMed is left out, which takes longer than all others."""
    code, text = run(sys.executable, judge(), *([] if java else ["--no-java"]), "--src", sources, results)
    failures = [line for line in text.splitlines() if line.startswith("FAIL")]
    assert failures or code == 0, text
    return failures


def less_study_references(failures: Sequence[str], study_uid: str) -> list[str]:
    """``failures`` without the complaint about a reference that is not to an instance.

    RT structure sets refer to their study by Study Instance UID (PS3.3 C.8.8.5); the judge and dcentvfy look for an
    instance of that UID.
    """
    study = re.escape(str(study_uid))
    missing = re.compile(rf"Error - Missing SOPInstanceUID that was referenced - {study}(; |$)")
    left = [missing.sub("", line) for line in failures if not re.search(rf"rtstruct.* dangling {study}$", line)]
    return [line for line in left if line.strip() != "FAIL dcentvfy study"]


def earned_by_sources(failure: str, files: Sequence[Path]) -> bool:
    """Whether the judge's complaint is about something taken over unaltered, or about the sources among themselves."""
    if failure.startswith("FAIL dciodvfy"):
        _, alone = run(require("dciodvfy"), "-filename", files[0])
        told = failure.split(" ", 3)[-1].split("; ")
        return all(line in alone for line in told)
    if failure.startswith("FAIL dcentvfy"):
        _, alone = run(require("dcentvfy"), *files)
        lines = re.findall(r"Error - [^;]*?(?=;|$)", failure)
        return all(line[:80] in alone for line in lines)
    return False
