"""The operator manual's table of error codes, made from the register so that it cannot fall behind.

``python -m node.manual > docs/error-codes.md`` (``make docs``).
"""

from __future__ import annotations

import sys
from itertools import groupby

import dicom_sr.errors
import models.program_errors
import models.remote_errors
import node.errors
from models.errors import NodeError, Transient, register

_BRANCHES = (
    dicom_sr.errors,
    models.program_errors,
    models.remote_errors,
    node.errors,
)  # Imported so that their classes are in the register

_HEADINGS = {
    "ACC": "Accounts of the console",
    "ANO": "Anonymised export",
    "CFG": "Configuration and use",
    "EXT": "Programs of external models",
    "HL7": "HL7 v2 messages from others",
    "JOB": "Runs",
    "MOD": "Models",
    "MON": "Watching the node",
    "NOT": "Notifications",
    "PEER": "Destinations and other peers",
    "REM": "Remote models",
    "RES": "Result objects",
    "SER": "Series refused by the geometry gate (a status object says so in the PACS)",
    "SPO": "Received files",
    "STO": "Database",
    "SUI": "Images not good enough to say “nothing found”",
    "TXT": "Generated text, questions and answers",
    "WEB": "Web services",
}


def product_errors() -> list[type[NodeError]]:
    """Every error class of this product that carries a code, in code order."""
    packages = {branch.__name__.split(".")[0] for branch in _BRANCHES} | {"models"}
    return [cls for cls in register() if cls.__module__.split(".")[0] in packages]


def error_table() -> str:
    """The page as Markdown."""
    lines = [
        "# Error codes",
        "",
        "Every error carries a stable code: in logs, in `ainode why`, in status objects. *Tried again* means the node",
        "repeats the work by itself; everything else waits for somebody. This page is generated (`make docs`).",
    ]
    for prefix, members in groupby(product_errors(), key=lambda cls: cls.code.split("-")[0]):
        lines += [
            "",
            f"## {_HEADINGS[prefix]}",
            "",
            "| code | what happened | tried again | what to do |",
            "|---|---|---|---|",
        ]
        for cls in members:
            lines.append(
                f"| {cls.code} | {cls.summary} | {'yes' if issubclass(cls, Transient) else 'no'} | {cls.remedy} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(error_table())
