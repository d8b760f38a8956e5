"""The table of systems in docs/models.md, made from their descriptions so that it cannot fall behind.

``python -m models.export.table docs/models.md`` (``make docs``) rewrites it between its markers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.export.systems import System, described

BEGIN = "<!-- systems: made by `python -m models.export.table docs/models.md`, do not edit -->"
END = "<!-- /systems -->"
_COLUMNS = ("system", "what", "family", "licence: code / weights", "status", "keys", "torch / ONNX Runtime", "proof")


def rows() -> list[dict[str, str]]:
    """One row a system, as `ainode models list --json` gives them."""
    return [{"system": name, **system.model_dump(), "command": system.command(name)} for name, system in _ordered()]


def table() -> str:
    """The table as Markdown: first what runs, then what only needs weights, then the rest."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    lines += [f"| {' | '.join(_cells(name, system))} |" for name, system in _ordered()]
    return "\n".join(lines)


def renewed(page: str) -> str:
    """``page`` with the table between its markers made anew.

    Raises
    ------
    ValueError
        It has no markers.
    """
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _ordered() -> list[tuple[str, System]]:
    order = list(System.model_fields["status"].annotation.__args__)  # type: ignore[union-attr]
    return sorted(described().items(), key=lambda item: (order.index(item[1].status), item[0]))


def _cells(name: str, system: System) -> tuple[str, ...]:
    source = f" ({system.source})" if system.source else ""
    status = f"{system.status}; {system.note}" if system.note else system.status
    what = f"{system.title}{source}: {system.task}" + (f". Takes {system.takes}" if system.takes else "")
    return (
        f"`{name}`",
        what,
        system.family or "–",
        f"{system.licence_code} / {system.licence_weights}",
        status,
        system.keys or "–",
        system.parity or "–",
        f"`{system.proof}`" if system.proof else "–",
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text(encoding="utf-8")), encoding="utf-8")
