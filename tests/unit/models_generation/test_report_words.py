"""The vocabulary of R2Gen: cleaned, counted and numbered as the training did it, and never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import CheckpointMismatch

pytest.importorskip("tokenizers")

from models.export.report_words import annotated_words, cleaned, word_tokenizer, words_beside

REPORTS = {
    "The heart is normal. No effusion.": "the heart is normal . no effusion .",
    "1. Clear lungs.\n2. No   pneumothorax; [stable]": "clear lungs . no pneumothorax stable .",
    'Compared to ___, "mild" edema/effusion is 1.5 cm..': "compared to mild edemaeffusion is 15 cm .",
    "Findings: A. 3. Left-sided PICC @ SVC <new>": "findings a . left-sided picc svc new .",
    "": ".",
}
"""Reports, and what ``clean_report_mimic_cxr`` makes of them."""


@pytest.mark.parametrize("report", REPORTS)
def test_reports_are_cleaned_as_the_training_cleaned_them(report: str) -> None:
    assert " ".join(cleaned(report)) == REPORTS[report]


def annotation(folder: Path, pictures: int = 1) -> list[str]:
    reports = ["Lungs clear. Heart normal."] * 9 + ["Heart enlarged."] * 3
    examples = [{"id": n, "report": each, "image_path": ["a"] * pictures} for n, each in enumerate(reports)]
    (folder / "annotation.json").write_text(json.dumps({"train": examples, "val": [{"report": "Never seen. " * 20}]}))
    return reports


def test_words_are_counted_and_sorted(tmp_path: Path) -> None:
    reports = annotation(tmp_path)
    assert annotated_words(reports, 10) == [".", "<unk>", "heart"]
    assert annotated_words(reports, 9) == [".", "<unk>", "clear", "heart", "lungs", "normal"]
    assert words_beside(tmp_path, 4) == [".", "<unk>", "heart"]


def test_another_number_of_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match=r"annotation\.json of its training data"):
        words_beside(tmp_path, 4)
    annotation(tmp_path)
    with pytest.raises(CheckpointMismatch, match="makes 3 words, the checkpoint knows 6"):
        words_beside(tmp_path, 7)
    # A list of the words is believed before the reports are counted.
    words = {"<unk>": 2, ".": 1, "heart": 3, "lungs": 4}
    (tmp_path / "vocabulary.json").write_text(json.dumps({"images": 1, "words": words}))
    assert words_beside(tmp_path, 5) == [".", "<unk>", "heart", "lungs"]


def test_reports_on_two_images_are_refused(tmp_path: Path) -> None:
    annotation(tmp_path, pictures=2)
    with pytest.raises(CheckpointMismatch, match="two images"):
        words_beside(tmp_path, 4)
    (tmp_path / "vocabulary.json").write_text(json.dumps({"images": 2, "words": [".", "<unk>", "clear"]}))
    with pytest.raises(CheckpointMismatch, match="two images"):
        words_beside(tmp_path, 4)


@pytest.mark.parametrize(
    "content", ['["a", "a", "<unk>"]', '["a"]', '{"<unk>": 1, "a": 3}', '{"<unk>": 1, "a": 1}', "3", "{", '{"a": "b"}']
)
def test_a_broken_list_is_refused(tmp_path: Path, content: str) -> None:
    for whole in (content, f'{{"images": 1, "words": {content}}}'):
        (tmp_path / "vocabulary.json").write_text(whole)
        with pytest.raises(CheckpointMismatch, match=r"vocabulary\.json"):
            words_beside(tmp_path, 3)


@pytest.mark.parametrize("content", ["[]", '{"train": [{}]}', '{"train": [{"report": 3}]}', "{"])
def test_a_broken_annotation_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "annotation.json").write_text(content)
    with pytest.raises(CheckpointMismatch, match=r"annotation\.json"):
        words_beside(tmp_path, 3)


def test_text_has_no_blank_before_its_stops() -> None:
    tokenizer = word_tokenizer([".", "<unk>", "clear", "lungs"])
    ids = tokenizer.encode("lungs clear . heart .").ids
    assert ids == [4, 3, 1, 2, 1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "lungs clear. <unk>."
    assert tokenizer.decode([0]) == ""
