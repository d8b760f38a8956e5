"""Who writes the impression: the generator while it tells the truth, the composer otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from models.composer import compose
from models.errors import InferenceFailed, ModelError, OutOfMemory
from models.report import draft
from models.results import Draft, ModelReference, StudyResult
from models.volume import Volume
from tests.unit.models_report.builders import found, not_assessed, nothing_found

WRITER = ModelReference("scripted", "1", "Scripted writer", "test", "cd" * 32)


class ScriptedWriter:
    """Stands for a report model that says what the test wants: a trained one cannot be told to lie."""

    card = SimpleNamespace(id="scripted")

    def __init__(self, text: str = "", error: ModelError | None = None) -> None:
        self.text, self.error, self.calls = text, error, 0

    def write(self, result: StudyResult, inputs: Mapping[str, Volume], language: str) -> Draft:
        self.calls += 1
        if self.error:
            raise self.error
        return Draft(language, "", self.text, author=WRITER, notes=("Demonstration.",))


def write(result: StudyResult, writer: ScriptedWriter, language: str = "en") -> Draft:
    return draft(result, language, generator=writer, inputs={})  # type: ignore[arg-type]


def test_a_true_impression_stands_with_its_author() -> None:
    result, text = found([(12.4, "left", 480.0)]), "One acute infarct on the left, 12.4 mL."
    made = write(result, ScriptedWriter(text))
    assert made.impression == text
    assert made.author == WRITER
    assert made.findings == compose(result, "en").findings
    assert made.notes[-2:] == (
        "Impression written by: Scripted writer, version 1, weights digest (SHA-256) cdcdcdcdcdcd.",
        "Demonstration.",
    )


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        ("One acute infarct on the right, 12.4 mL.", "右側に急性期梗塞を1か所認める（12.4 mL）。"),
        ("No acute infarct.", "急性期梗塞を認めない。"),
        ("One acute infarct on the left.", "左側に急性期梗塞を1か所認める。"),
        ("", ""),
    ],
)
def test_a_false_or_incomplete_impression_is_replaced_and_recorded(language: str, english: str, japanese: str) -> None:
    result = found([(12.4, "left", 480.0)])
    made = write(result, ScriptedWriter(japanese if language == "ja" else english), language)
    composed = compose(result, language)
    assert (made.findings, made.impression, made.author) == (composed.findings, composed.impression, None)
    assert made.notes[:-1] == composed.notes
    assert made.notes[-1].startswith("MOD-007")


def test_a_study_that_was_not_assessed_never_reaches_the_generator() -> None:
    writer = ScriptedWriter("No acute infarct.")
    assert write(not_assessed(), writer) == compose(not_assessed(), "en")
    assert writer.calls == 0


def test_a_generator_that_fails_costs_only_its_sentence() -> None:
    made = write(nothing_found(), ScriptedWriter(error=InferenceFailed("shape")))
    assert made.impression == compose(nothing_found(), "en").impression
    assert made.notes[-1].startswith("MOD-005")


def test_a_passing_shortage_of_memory_is_left_to_the_retry() -> None:
    with pytest.raises(OutOfMemory):
        write(nothing_found(), ScriptedWriter(error=OutOfMemory("no")))


def test_without_a_generator_the_composer_writes() -> None:
    assert draft(nothing_found(), "ja", generator=None, inputs={}) == compose(nothing_found(), "ja")
