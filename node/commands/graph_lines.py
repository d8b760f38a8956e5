"""What ``ainode models verify`` says of a model's graphs: their shapes, and how they compared with the original."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from models.model import Model
    from models.session import Session


def graph_lines(model: Model) -> Iterator[str]:
    """One line for each graph. Raises as :meth:`models.model.Model.session`."""
    from models.manifest import REPORT_FILE

    compared = _compared(model.folder / REPORT_FILE)
    for name, graph in model.card.graphs.items():
        session = model.session(name)
        told = f"{_shapes(session, session.inputs)} -> {_shapes(session, session.outputs)}"
        yield f"    {name}: {told}; opset {graph.opset}{_parity(compared.get(graph.file))}"


def _shapes(session: Session, names: Iterable[str]) -> str:
    return ", ".join(f"{name} [{', '.join(str(size or '?') for size in session.shapes[name])}]" for name in names)


def _parity(differences: list[float] | None) -> str:
    if not differences:
        return ""
    return f"; {max(differences):.1e} from the original at {len(differences)} sizes when it was imported"


def _compared(report: Path) -> dict[str, list[float]]:
    """Relative differences by graph's file, as the import report has them; nothing where there is none of ours."""
    try:
        graphs: Any = json.loads(report.read_bytes())["graphs"]
        return {str(file): [float(each) for each in about["relative_differences"]] for file, about in graphs.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # it came with the product, or was not imported by us: nothing is claimed
