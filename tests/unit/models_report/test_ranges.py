"""Ranges of volumes over decision thresholds: written in both languages, read back, and never taken for a contradiction."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from models import phrases_en, phrases_ja
from models.composer import compose
from models.consistency import contradictions, omissions
from models.folding import plain
from models.identifying_text import identifiers
from models.measurement import volume_quantity
from models.report_facts import format_range
from models.results import Quantity, StudyResult
from models.volume_range import EVIDENCE, MEANING
from tests.unit.models_report.builders import found

BOUNDS = (0.0, 0.31, 1.93, 9.14, 11.9, 14.2, 19.63, 28.05, 99.2, 119.6, 142.0, 2014.0)
VOLUMES = ((12.4, 11.03, 14.12), (0.31, 0.0, 0.52))


def ranged() -> StudyResult:
    """A large infarct on the left and a small one on the right that the strict thresholds do not show."""
    plain = found([(volume, side, 520.0) for (volume, *_), side in zip(VOLUMES, ("left", "right"), strict=True)])
    assert plain.segmentation is not None
    regions = [
        replace(region, quantities=(_quantity(*volumes), *region.quantities))
        for region, volumes in zip(plain.segmentation.regions, VOLUMES, strict=True)
    ]
    return replace(
        plain,
        segmentation=replace(plain.segmentation, regions=tuple(regions)),
        totals=(_quantity(*map(sum, zip(*VOLUMES, strict=True))),),
        evidence={**plain.evidence, EVIDENCE: {"score_margin": [0.06, -0.06], "site_cut": [0.7, 0.3]}},
    )


def _quantity(volume: float, low: float, high: float) -> Quantity:
    return replace(
        volume_quantity(volume), interval=(low, high), interval_meaning=f"{MEANING} score_margin 0.06 to -0.06"
    )


@pytest.mark.parametrize(
    ("language", "total", "first", "second", "note"),
    [
        (
            "en",
            "total volume 12.7 mL (11.0 to 14.6 mL over decision thresholds)",
            "Lesion 1: left, 12.4 mL (11.0 to 14.1 mL over decision thresholds), mean ADC 520",
            "0.31 mL (0 to 0.52 mL over decision thresholds)",
            "(margin of every condition, ADC ratio among them 0.06 to -0.06; site_cut 0.7 to 0.3). They are no confidence",
        ),
        (
            "ja",
            "総体積は12.7 mL（判定閾値による範囲11.0〜14.6 mL）である。",
            "病変1：左側、12.4 mL（判定閾値による範囲11.0〜14.1 mL）、平均ADC 520",
            "0.31 mL（判定閾値による範囲0〜0.52 mL）",
            "site_cut：0.7〜0.3）。信頼区間ではない。",
        ),
    ],
)
def test_the_text_gives_ranges_and_says_what_they_are(
    language: str, total: str, first: str, second: str, note: str
) -> None:
    result = ranged()
    text = compose(result, language)
    assert total in text.findings and first in text.findings and second in text.findings
    assert "11.0" in text.impression and "14.6" in text.impression
    assert any(note in each for each in text.notes)
    assert contradictions(text, result) == () and omissions(text, result) == ()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_without_a_sweep_nothing_is_said_of_ranges(language: str) -> None:
    text = compose(found([(12.4, "left", 520.0)]), language)
    assert not [word for word in ("decision thresholds", "判定閾値") if word in f"{text.findings}{text.notes}"]


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("11.0 to 14.6", "11.0 to 15.6"),  # the upper bound is another
        ("11.0 to 14.6", "10.0 to 14.6"),
        ("11.0 to 14.6", "11.0 to 14.1"),  # of the lesion, not of the total
        ("11.0 to 14.1", "11.0 to 14.6"),  # of the total, not of the lesion
        ("12.4 mL (", "11.4 mL ("),
        ("(11.0 to 14.6 mL over decision thresholds)", "(95 % confidence interval 11.0 to 14.6 mL)"),
    ],
)
def test_a_range_that_was_not_measured_is_named(said: str, instead: str) -> None:
    result = ranged()
    text = compose(result, "en")
    changed = replace(text, findings=text.findings.replace(said, instead))
    assert changed.findings != text.findings
    assert contradictions(changed, result)


def test_a_japanese_range_that_was_not_measured_is_named() -> None:
    result = ranged()
    text = compose(result, "ja")
    changed = replace(text, impression=text.impression.replace("11.0〜14.6", "9.0〜14.6"))
    assert changed.impression != text.impression
    assert any("range '9.0-14.6'" in each for each in contradictions(changed, result))


def test_a_range_of_nothing_and_where_none_was_measured() -> None:
    bare = found([(12.4, "left", 520.0)])
    text = compose(bare, "en")
    spread = replace(
        text, impression=text.impression.replace("12.4 mL", "12.4 mL (11.0 to 14.1 mL over decision thresholds)")
    )
    assert any("range" in each for each in contradictions(spread, bare))
    loose = replace(text, impression=f"{text.impression} Seen (11.0 to 14.1 mL over decision thresholds).")
    assert any("11.0-14.1" in each for each in contradictions(loose, bare))


def test_bounds_round_as_volumes_do() -> None:
    assert format_range((0.001, 0.52), "–") == "0–0.52"
    assert format_range((99.96, 104.4), "–") == "100–104"
    assert format_range((0.0, 0.003), "–") == ""


def test_no_range_passes_for_a_date_or_a_number_of_somebody() -> None:
    """A guard that took one for a date withheld every impression with it."""
    for low, high in itertools.combinations(BOUNDS, 2):
        for write in (phrases_en.volume, phrases_ja.volume):
            text = plain(write((low + high) / 2, (low, high)))
            assert identifiers(text) == [], text
        if high < 1000:
            text = f"{format_range((low, high), '-')} mL"
            assert identifiers(text) == [], text


@pytest.mark.parametrize(
    "written", ["11.9.14", "11/9/14", "11-9-'14", "11.9-2014", "2014-9/11", "1.2 . 14", "12-3456-78"]
)
def test_dates_and_numbers_are_still_found(written: str) -> None:
    assert identifiers(f"seen {written} at noon") != []
