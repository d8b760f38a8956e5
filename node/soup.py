"""The list of third-party software (SOUP, IEC 62304 8.1.2), made from ``constraints.txt`` so that it cannot fall behind.

``python -m node.soup > docs/regulatory/soup.md`` (``make docs``), in the source tree.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")

PURPOSES = {
    "alembic": "migrations of the database; `ainode db upgrade` is tried from each earlier revision",
    "apscheduler": "timers of the scheduler process",
    "argon2-cffi": "hashes of passcodes of the console",
    "cryptography": "keys of signatures; certificates; what joserfc computes with",
    "dicom-anonymizer": "tables of PS3.15 E.1-1 for anonymous copies",
    "fastapi": "console, health and metrics",
    "fhir-resources": "FHIR R4 resources of notifications",
    "highdicom": "SEG, SR and other objects; private parts are checked by contract at start",
    "hl7apy": "structure of HL7 v2 messages",
    "httpx": "DICOMweb, FHIR and webhooks as user agent",
    "jinja2": "pages of the console",
    "joserfc": "tokens of the hospital's sign-on (OpenID Connect)",
    "numpy": "arrays",
    "onnxruntime": "runs models on the CPU; known answers at start and daily",
    "onnxruntime-gpu": "runs models on the GPU; known answers at start and daily, else the CPU",
    "pillow": "lettering in pictures",
    "prometheus-client": "text format of metrics",
    "pydantic": "checks the configuration and messages between processes",
    "pydicom": "reads and writes data sets",
    "pyjpegls": "decodes JPEG-LS",
    "pylibjpeg-openjpeg": "decodes JPEG 2000",
    "pylibjpeg-rle": "RLE Lossless",
    "pynetdicom": "DICOM upper layer; private parts are checked by contract at start",
    "pyotp": "codes of the second factor (RFC 6238)",
    "pypdf": "joins PDF parts",
    "python-gdcm": "decodes JPEG, JPEG Lossless and others",
    "reportlab": "PDF reports and the conformance statement",
    "rich": "progress on terminals",
    "scipy": "filters, labelling, registration",
    "simpleitk": "resampling",
    "sqlalchemy": "SQL for SQLite and PostgreSQL",
    "tokenizers": "tokens of text models",
    "typer": "command line",
    "uvicorn": "HTTP server of the console",
    "websockets": "events of workitems by UPS-RS",
}
"""What each direct dependency is for, and what holds it to that."""


def direct_dependencies() -> list[str]:
    """Normalised names of what the product itself asks for at run time."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted({_normal(name[0]) for each in project["dependencies"] if (name := _NAME.match(each))})


def pinned() -> dict[str, tuple[str, str]]:
    """Normalised name → (name, version) of every line of ``constraints.txt``."""
    lines = (_ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = [line.split("==", 1) for line in lines if "==" in line and not line.startswith("#")]
    return {_normal(name): (name, version.split()[0]) for name, version in parts}


def soup_list() -> str:
    """The page as Markdown."""
    direct, versions = direct_dependencies(), pinned()
    lines = [
        "# Third-party software (SOUP)",
        "",
        "Made from `constraints.txt` (`make docs`). The first table is what the product asks for at run time, with what it is",
        "used for; the second what these bring along or what only building and testing need. Known anomalies: each project's",
        "list of issues, looked through at each change of a version here. Python itself (3.11 or newer), the operating system's",
        "OpenSSL and SQLite, and where used PostgreSQL, are the site's.",
        "",
        "| software | version | used for |",
        "|---|---|---|",
        *(f"| {versions[name][0]} | {versions[name][1]} | {PURPOSES[name]} |" for name in direct if name in versions),
        "",
        "| software | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for key, (name, version) in sorted(versions.items()) if key not in direct),
    ]
    return "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(soup_list())
