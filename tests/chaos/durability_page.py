"""Collects what the tests of this folder found, for docs/durability.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "durability.md"
_BEGIN, _END = "<!-- tables: written by `{}` -->", "<!-- end of tables -->"


@dataclass
class Table:
    """Rows of one heading."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def text(self) -> str:
        """As Markdown."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(("---",) * len(self.columns))]
        return "\n".join([*lines, *(_line(row) for row in self.rows), ""])


@dataclass
class Findings:
    """Tables by title, in the order in which tests began them."""

    tables: dict[str, Table] = field(default_factory=dict)

    def add(self, title: str, columns: tuple[str, ...], *row: object) -> None:
        """One more row; a table of that title is begun where there is none."""
        table = self.tables.setdefault(title, Table(title, columns))
        table.rows.append(tuple(map(str, row)))

    def text(self) -> str:
        """Every table."""
        return "\n".join(table.text() for _, table in sorted(self.tables.items()))

    def publish(self, page: Path = PAGE, command: str = "make chaos") -> None:
        """Put the tables into the page, in the place of those of the last run of ``command``."""
        begin = _BEGIN.format(command)
        before, _, rest = page.read_text().partition(begin)
        after = rest.partition(_END)[2]
        page.write_text(f"{before}{begin}\n\n{self.text()}\n{_END}{after}")


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"
