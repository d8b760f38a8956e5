"""Cards with many labels (TotalSegmentator, VISTA3D): every class once, left is left, codes mean what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dicom_sr.codes import known_meanings
from models.card import Card
from models.export.imported import CARDS_FOLDER

CARDS = [*sorted((CARDS_FOLDER / "nnunet").glob("*.toml")), CARDS_FOLDER / "vista3d.toml"]
CLASSES = {"organs": 24, "vertebrae": 26, "cardiac": 18, "muscles": 23, "ribs": 26}


def card(path: Path, tmp_path: Path) -> Card:
    """The template as a whole card, with a graph in its place."""
    graph = {"file": "main.onnx", "sha256": "0" * 64, "inputs": ["image"], "outputs": ["logits"], "opset": 18}
    lines = [f"{key} = {json.dumps(value)}" for key, value in graph.items()]
    text = path.read_text(encoding="utf-8") + "\n[graphs.main]\n" + "\n".join(lines) + "\n"
    (tmp_path / "model.toml").write_text(text, encoding="utf-8")
    return Card.load(tmp_path)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_card_is_whole_and_its_codes_are_right(path: Path, tmp_path: Path) -> None:
    found = card(path, tmp_path)
    # SEALS states none: it read the files as they lay.
    assert found.options["orientation"] == ("LPS" if path.stem == "deepisles-seals" else "RAS")
    assert len({label.name for label in found.labels}) == len(found.labels)
    for label in found.labels:
        for side in ("left", "right"):
            assert (label.side == side) == (side in label.name.lower().split())
        other = {"left": "right", "right": "left"}.get(label.side.value)
        for term in (label.finding, label.category, label.site):
            if known := known_meanings(term.scheme, term.value):
                assert term.meaning.lower() in known, label.name
                assert other is None or not all(other in meaning.split() for meaning in known)


def test_the_parts_are_the_117_classes(tmp_path: Path) -> None:
    names: list[Any] = []
    for part, count in CLASSES.items():
        labels = card(CARDS_FOLDER / "nnunet" / f"totalsegmentator-{part}.toml", tmp_path).labels
        assert len(labels) == count
        names += [label.name for label in labels]
    assert len(set(names)) == 117
