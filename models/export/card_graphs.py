"""Another graph in the place of one that a converter wrote: in the card, and in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.card import CARD_FILE, Card, file_digest
from models.export.card_text import toml_text
from models.export.graph_export import data_path, golden_path


def put_graph(content: dict[str, Any], name: str, old: Path, new: Path, **stated: Any) -> None:
    """Let the card's ``content`` state graph ``new``, with its known answer and weights; remove the files of ``old``.

    Parameters
    ----------
    **stated
        What else changes in the graph's own table; ``tolerance`` is that of its known answer.
    """
    golden = golden_path(new)
    pinned: dict[str, Any] = {"file": golden.name, "sha256": file_digest(golden)}
    if "tolerance" in stated:
        pinned["tolerance"] = stated.pop("tolerance")
    content["graphs"][name] |= {"file": new.name, "sha256": file_digest(new), **stated}
    content["golden"][name] = pinned
    content.get("files", {}).pop(f"{name}_data", None)
    if data_path(new).exists():
        data = data_path(new)
        content.setdefault("files", {})[f"{name}_data"] = {"file": data.name, "sha256": file_digest(data)}
    for left in (old, data_path(old), golden_path(old)):
        left.unlink(missing_ok=True)


def write_card(content: dict[str, Any], folder: Path) -> Card:
    """Write the card anew under the comments it begins with. Raises as :meth:`models.card.Card.load`."""
    told = (folder / CARD_FILE).read_text(encoding="utf-8")
    comments = "".join(f"{line}\n" for line in told.splitlines() if line.startswith("#"))
    (folder / CARD_FILE).write_text(f"{comments}\n{toml_text(content)}", encoding="utf-8")
    return Card.load(folder)


def graph_size(graph: Path) -> int:
    """Bytes of a graph and of the weights beside it."""
    return sum(path.stat().st_size for path in (graph, data_path(graph)) if path.exists())
