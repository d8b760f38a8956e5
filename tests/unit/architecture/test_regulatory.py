"""The regulatory pack: tests that the hazard log names exist, the SOUP list is that of the constraints, links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from node.soup import PURPOSES, direct_dependencies, pinned, soup_list

ROOT = Path(__file__).resolve().parents[3]
PACK = ROOT / "docs" / "regulatory"
PAGES = ["security.md", "pacs-connection.md", "model-engineer.md", "architecture.md", "alerts.md", "conformance.md"]


def _rows() -> list[list[str]]:
    lines = (PACK / "hazards.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| H\d+ ", line)]


def test_each_hazard_has_a_control_and_a_test_that_exists() -> None:
    rows = _rows()
    assert [row[0] for row in rows] == [f"H{number}" for number in range(1, len(rows) + 1)] and len(rows) > 20
    for row in rows:
        assert all(row) and row[3] in "123", row
        for named in row[5].split(", "):
            path, _, function = named.partition("::")
            target = ROOT / path
            assert target.exists(), named
            if function:
                names = {
                    each.name for each in ast.walk(ast.parse(target.read_text())) if isinstance(each, ast.FunctionDef)
                }
                assert function in names, named


def test_soup_list_is_that_of_the_constraints() -> None:
    assert (PACK / "soup.md").read_text(encoding="utf-8") == soup_list(), "run `make docs`"
    assert set(direct_dependencies()) == set(PURPOSES)
    missing = set(direct_dependencies()) - set(pinned())
    assert not missing, f"constraints.txt lacks {missing}"


@pytest.mark.parametrize("page", [*PAGES, *(f"regulatory/{path.name}" for path in sorted(PACK.glob("*.md")))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / "docs" / page
    text = path.read_text(encoding="utf-8")
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert not [
        link for link, _, _ in links if link and not link.startswith("http") and not (path.parent / link).exists()
    ]
    for file, _, anchor in links:
        if anchor:
            target = path if not file else path.parent / file
            assert f"## {anchor}\n" in target.read_text(encoding="utf-8"), anchor
    named = re.findall(r"`?((?:docs|tests|models|monitoring)/[\w./-]+\w)`?", text)
    assert not [each for each in named if not (ROOT / each).exists()]
