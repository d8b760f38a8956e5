"""A document in three kinds of blocks, and as Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: the first row is its head. Every row has as many cells."""

    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
        """From head and rows."""
        return cls((tuple(head), *(tuple(row) for row in rows)))


Block = Heading | Words | Grid


def as_markdown(blocks: Sequence[Block]) -> str:
    """The document as Markdown."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {text}")
            case Words(text):
                parts.append(text)
            case Grid(rows):
                lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
                parts.append("\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]))
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #999;padding:.25rem .5rem;text-align:left;"
    "vertical-align:top}th{background:#eee}h1,h2,h3{line-height:1.2}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#eee}th{background:#333}}"
)


def as_html(blocks: Sequence[Block]) -> str:
    """The document as one HTML page that needs nothing else."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
    ]
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"<h{level}>{escape(text)}</h{level}>")
            case Words(text):
                parts.append(f"<p>{escape(text)}</p>")
            case Grid(rows):
                head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in rows[0])
                body = "".join(
                    "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:]
                )
                parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join([*parts, "</body></html>"]) + "\n"
