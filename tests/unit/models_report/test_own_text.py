"""What a model wrote from the images: shown as nothing more than that, and left out where measurements say otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.report import draft
from models.results import CodedTerm, Draft, ModelReference, Outcome, StudyResult
from tests.unit.models_report.builders import found

AUTHOR = ModelReference("reader", "1.0", "Reader", "Test", "ab" * 32)


def read(text: str, language: str = "en") -> StudyResult:
    """A result with nothing but text."""
    return StudyResult(
        outcome=Outcome.FOUND,
        title="Report text on a radiograph",
        finding=CodedTerm("404684003", "SCT", "Clinical finding"),
        site=CodedTerm("816094009", "SCT", "Chest"),
        model=AUTHOR,
        drafts=(Draft(language, text, "", author=AUTHOR, notes=("own note",)),),
        limitations=("language_model",),
    )


def test_text_without_measurements_is_flagged_and_stands() -> None:
    made = draft(read("Haemorrhage of 12 mL on the left. No fracture."), "en", generator=None, inputs={})
    assert "Haemorrhage of 12 mL on the left. No fracture." in made.findings
    assert made.findings.startswith("Reading of a language model (AI draft, not reviewed; nothing in it was measured):")
    flagged = next(note for note in made.notes if note.startswith("Check of the model's text"))
    assert "haemorrhage" in flagged.lower()
    assert "12" in flagged
    assert "12" not in made.impression
    assert "own note" in made.notes
    assert any("every sentence has to be checked" in note for note in made.notes)
    assert made.author == AUTHOR


@pytest.mark.parametrize(
    "text",
    [
        "Restricted diffusion on the right side of the brain: 1 lesion, total volume 12.4 mL.",
        "Restricted diffusion on the left side of the brain: 3 lesions, total volume 12.4 mL.",
        "Restricted diffusion on the left side of the brain: 1 lesion, total volume 55 mL.",
        "No restricted diffusion.",
    ],
    ids=["side", "number", "volume", "absence"],
)
def test_text_against_the_measurements_is_left_out(text: str) -> None:
    result = replace(found([(12.4, "left", None)]), drafts=(Draft("en", text, "", author=AUTHOR),))
    made = draft(result, "en", generator=None, inputs={})
    assert text not in made.findings
    assert any(note.startswith("MOD-007") for note in made.notes)
    assert made.author is None


def test_another_language_is_not_translated() -> None:
    made = draft(read("No fracture."), "ja", generator=None, inputs={})
    assert "No fracture." not in made.findings + made.impression
    assert "モデルはこの言語の文章を作成していない（対応言語：en）。" in made.findings
    empty = draft(read("  "), "en", generator=None, inputs={})
    assert "no text in this language" in empty.findings
