"""Results as a file, a table on the terminal, and the generated part of docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Row
from tests.peers import require

BEGIN, END = "<!-- figures: written by `python -m tests.bench --document` -->", "<!-- end of figures -->"
COLUMNS = ("name", "mode", "file system", "figure", "peer", "ratio", "target", "met")


def machine(load_before: float) -> dict[str, Any]:
    """What a reader must know to judge the figures; nothing that identifies the machine."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(load_before, 1),
        "peers": [_version("storescp"), _version("Orthanc")],
    }


def _version(program: str) -> str:
    said = subprocess.run([require(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    return f"{'DCMTK' if program == 'storescp' else program} {found.group() if found else 'of unknown version'}"


def save(path: Path, rows: Sequence[Row], about: dict[str, Any], *, partial: bool) -> None:
    """Write ``{"machine": …, "partial": …, "rows": […]}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "partial": partial, "rows": [each.as_json() for each in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[list[Row], dict[str, Any], bool]:
    """What :func:`save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**each) for each in content["rows"]], content["machine"], content["partial"]


def _cells(each: Row) -> tuple[str, ...]:
    return (
        each.name,
        each.mode,
        each.filesystem,
        f"{each.figure:g} {each.unit}",
        each.peer,
        "" if each.ratio is None else f"{each.ratio:g}",
        each.target,
        "" if each.met is None else "yes" if each.met else "no",
    )


def show(console: Console, rows: Sequence[Row]) -> None:
    """The table on the terminal."""
    table = Table(*COLUMNS, title="Ratio: ours to the peer's, lower is better", title_justify="left")
    for each in rows:
        table.add_row(*_cells(each), style="" if each.met is not False else "yellow")
    console.print(table)


def page(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """The generated part of the page."""
    lines = [
        f"{about['cores']} cores, {about['architecture']}, Python {about['python']}, {', '.join(about['peers'])}; "
        f"load average {about['load_before']} before and {about['load_after']} after the run.",
    ]
    for section in dict.fromkeys(each.name.split(".")[0] for each in rows):
        chosen = [each for each in rows if each.name.split(".")[0] == section]
        lines += ["", f"### {section}", "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        lines += [f"| {' | '.join(_cells(each))} |" for each in chosen]
        lines += ["", *(f"- `{name}`: {how}." for name, how in _explained(chosen))]
    return "\n".join(lines)


def _explained(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """How each name was measured, once."""
    return list({each.name: (each.name, each.how.split("; the peer's figure")[0]) for each in rows}.values())


def document(path: Path, text: str) -> None:
    """Put ``text`` between the marks of the page."""
    whole = path.read_text(encoding="utf-8")
    before, _, rest = whole.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
