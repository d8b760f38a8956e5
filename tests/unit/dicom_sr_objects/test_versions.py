"""What objects say of the result whose place they take."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_sr.rendering import RenderedObject
from dicom_sr.retraction import Taken
from dicom_sr.versions import name_predecessors
from models.results import Outcome, Replaced

EARLIER = Replaced("2026-01-31 03:12", 1, Outcome.FOUND, 12.0, 20, 0, ("FLAIR",))


@pytest.mark.parametrize(
    ("series", "total_ml", "expected"),
    [
        ("AI: measurements, not reviewed", 14.04, "AI: measurements, not reviewed, 12.0 -> 14.0 mL, replaces 03:12"),
        ("AI: measurements, not reviewed", 12.01, "AI: measurements, not reviewed, still 12.0 mL, replaces 03:12"),
        ("AI: segmentation, infarct-adc-baseline 1.1.0", 14.0, "AI: segmentation, 12.0 -> 14.0 mL, replaces 03:12"),
        (
            "AI: draft report, not reviewed, by request",
            14.0,
            "AI: draft report, not reviewed, by request, replaces 03:12",
        ),
        ("AI: did not run", None, "AI: did not run, replaces 03:12"),
    ],
)
def test_the_series_says_both_volumes_in_what_a_list_shows(series: str, total_ml: float | None, expected: str) -> None:
    dataset = Dataset()
    dataset.SeriesDescription, dataset.Modality = series, "SEG"
    name_predecessors([RenderedObject("seg", dataset)], EARLIER, (), total_ml)
    assert dataset.SeriesDescription == expected and len(expected) <= 64


def test_a_note_says_what_is_different() -> None:
    taken = Taken([], "2026-01-31 03:12", 1, EARLIER, Outcome.FOUND, 14.0)
    assert taken.told("en") == (
        "the AI result of 2026-01-31 03:12 (run 1) is replaced by a later one: 12.0 mL → 14.0 mL; 20 images added (FLAIR)"
    )
    assert taken.told("ja").endswith("：12.0 mL→14.0 mL、画像20枚追加（FLAIR）")
    gone = Taken([], "2026-01-31 03:12", 1, EARLIER, Outcome.NOTHING_FOUND, 0.0)
    assert "12.0 mL → nothing found" in gone.told("en") and "12.0 mL→所見なし" in gone.told("ja")


def test_a_result_that_was_only_written_anew_is_not_called_another_one() -> None:
    anew = Taken([], "2026-01-31 03:12", 1, is_same_run=True)
    assert "what it says is the same" in anew.told("en") and "内容は同じ" in anew.told("ja")
    assert "replaced by a later one" not in anew.told("en")
