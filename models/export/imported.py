"""What an import leaves: a card completed with the graphs, and a record of how they compare with torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.card import CARD_FILE, Card, file_digest
from models.export.card_text import toml_text
from models.export.graph_export import Exported
from models.export.steps import Kind, say

Tables = Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]
CARDS_FOLDER = Path(__file__).resolve().parent / "cards"
REPORT_FILE = "import.json"


@dataclass(frozen=True, slots=True)
class Imported:
    """One converted checkpoint.

    Attributes
    ----------
    keys, unused : int
        Keys that were converted; those of halves that are left, which the checkpoint holds besides.
    weights : mapping
        What was measured of weights that are no floats; empty: they are.
    published : mapping
        Where graphs come from that were not made here; empty: they were.
    """

    system: str
    checkpoint: Path
    card: Card
    graphs: tuple[Exported, ...]
    keys: int
    unused: int = 0
    weights: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """What was converted from what, and the largest difference of each graph at each size compared."""
        return {
            "system": self.system,
            "model": self.card.id,
            "checkpoint": self.checkpoint.name,
            "checkpoint_sha256": file_digest(self.checkpoint),
            "keys": self.keys,
            "missing": 0,
            "unexpected": 0,
            "unused": self.unused,
            "weights": dict(self.weights) or {"kind": "float"},
            "graphs": {
                graph.path.name: {
                    "exporter": graph.exporter,
                    "opset": graph.opset,
                    "relative_differences": [float(f"{each:.2e}") for each in graph.differences],
                }
                for graph in self.graphs
            },
            **({"published": dict(self.published)} if self.published else {}),
        }

    def save_report(self, folder: Path) -> None:
        """Write the report beside the card."""
        (folder / REPORT_FILE).write_text(json.dumps(self.report(), indent=2) + "\n", encoding="utf-8")


def complete_card(
    system: str,
    folder: Path,
    graphs: Mapping[str, Exported],
    *,
    replacements: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    content: Mapping[str, Any] | None = None,
    tables: Tables | None = None,
    tolerance: float | None = None,
) -> Card:
    """Write ``model.toml`` from the system's template and the graphs' names and digests.

    Parameters
    ----------
    content : mapping
        The card without graphs, in place of the system's template.
    replacements : mapping
        Lines of the template that depend on the checkpoint's sizes.
    files : mapping
        Further files in the folder, by the name the card gives them.
    tables : mapping
        Tables that depend on the checkpoint's sizes: name → key → number, text or list; or a list of such tables.
    tolerance : float or None
        How far another device may be from the known answers; None: the card's default.

    Raises
    ------
    CardInvalid
        The result is no valid card.
    """
    say(Kind.CARD)
    text = toml_text(content) if content else (CARDS_FOLDER / f"{system}.toml").read_text(encoding="utf-8")
    for line, replacement in (replacements or {}).items():
        text = text.replace(f"\n{line}\n", f"\n{replacement}\n")
    for name, exported in graphs.items():
        graph = exported.as_graph()
        text += (
            f'\n[graphs.{name}]\nfile = "{graph.file}"\nsha256 = "{graph.sha256}"\n'
            f"inputs = {json.dumps(graph.inputs)}\noutputs = {json.dumps(graph.outputs)}\nopset = {graph.opset}\n"
            f'\n[golden.{name}]\nfile = "{exported.golden.name}"\nsha256 = "{file_digest(exported.golden)}"\n'
        )
        text += "" if tolerance is None else f"tolerance = {tolerance}\n"
    text += "".join(_table(name, entries) for name, entries in (tables or {}).items())
    weights = {f"{name}_data": each.data.name for name, each in graphs.items() if each.data is not None}
    for name, file in {**weights, **(files or {})}.items():
        text += f'\n[files.{name}]\nfile = "{file}"\nsha256 = "{file_digest(folder / file)}"\n'
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    return Card.load(folder)


def _table(name: str, entries: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """A table, or an array of tables, as TOML; numbers, texts and lists are written as in JSON."""
    if not isinstance(entries, Mapping):
        return "".join(f"\n[[{name}]]\n{_lines(each)}" for each in entries)
    return f"\n[{name}]\n{_lines(entries)}"


def _lines(entries: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in entries.items())
