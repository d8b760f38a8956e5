"""The deterministic report: its words, its rounding, and that it never contradicts its own result."""

from __future__ import annotations

import random

import pytest

import dicom_sr.errors  # noqa: F401  registers the SER codes
from models.composer import INFARCT_CODE, LISTED_LESIONS, compose
from models.consistency import contradictions, omissions
from models.errors import register
from models.phrases_en import English
from models.phrases_general_en import GeneralEnglish
from models.phrases_general_ja import GeneralJapanese
from models.phrases_ja import REASONS, Japanese
from models.registry import Registry
from models.report_facts import format_ml
from models.results import StudyResult
from models.suitability import LIMITATIONS
from tests.unit.models_report.builders import found, not_assessed, nothing_found


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (0.0, "0"), (0.001, "<0.01"), (0.005, "0.01"), (0.05, "0.05"), (0.125, "0.13"), (0.994, "0.99"),
        (0.996, "1.0"), (1.0, "1.0"), (12.35, "12.4"), (12.349, "12.3"), (99.94, "99.9"), (99.96, "100"), (142.5, "143"),
    ],
)  # fmt: skip
def test_volumes_are_rounded_half_up_in_three_bands(volume: float, text: str) -> None:
    assert format_ml(volume) == text


def test_english_text_of_one_lesion() -> None:
    draft = compose(found([(12.35, "left", 480.4)]), "en")
    assert draft.findings.splitlines() == [
        "1 area of restricted diffusion (high DWI signal with low ADC) on the left side of the brain, "
        "total volume 12.4 mL.",
        "Lesion 1: left, 12.4 mL, mean ADC 480 × 10⁻⁶ mm²/s.",
        "Detection limit (volume usually detected at this image quality, estimated on phantoms): 0.05 mL.",
        "Reporting threshold: 0.05 mL (smaller volumes are not reported).",
    ]
    assert draft.impression == (
        "Restricted diffusion suggestive of acute infarct on the left side of the brain: 1 lesion, "
        "total volume 12.4 mL."
    )
    assert draft.notes == (
        "AI draft, not reviewed by a physician.",
        '"No restricted diffusion found" is not "no infarct".',
        "Infarcts older than about 10 days may be missed, because ADC pseudonormalises.",
        "Restricted diffusion is not specific: seizure, hypoglycaemia, abscess, demyelination and cell-dense tumour "
        "can look the same.",
        "This is a baseline method. It has not been clinically validated.",
        "Model: Infarct ADC baseline, version 1.0.0, weights digest (SHA-256) abababababab.",
    )


def test_japanese_text_of_lesions_on_both_sides() -> None:
    draft = compose(found([(30.2, "left", 480.0), (12.04, "right", None), (0.31, "unknown", None)]), "ja")
    assert draft.findings.splitlines() == [
        "拡散強調像で高信号、ADC低下を示す拡散制限域を両側の脳実質（一部は側性不明）に3か所認める。総体積は42.6 mLである。",
        "病変1：左側、30.2 mL、平均ADC 480×10⁻⁶ mm²/s。",
        "病変2：右側、12.0 mL。",
        "病変3：側性不明、0.31 mL。",
        "検出限界（今回の画質で通常検出できる体積、ファントムによる推定）：0.05 mL。",
        "報告閾値：0.05 mL（これより小さいものは報告しない）。",
    ]
    assert draft.impression == (
        "両側の脳実質（一部は側性不明）に急性期梗塞を示唆する拡散制限域を認める（3病変、総体積42.6 mL、最大30.2 mL）。"
    )
    assert draft.notes[0] == "AIが作成した下書きであり、医師による確認は行われていない。"


def test_nothing_found_is_not_no_infarct() -> None:
    english, japanese = (compose(nothing_found(), language) for language in ("en", "ja"))
    assert "(detection limit 0.12 mL)" in english.impression
    assert "does not exclude an acute infarct" in english.impression
    assert "検出限界0.12 mL" in japanese.impression
    assert "否定するものではない" in japanese.impression
    assert '"No restricted diffusion found" is not "no infarct".' in english.notes


@pytest.mark.parametrize("language", ["en", "ja"])
def test_not_assessed_gives_the_reason_and_states_nothing(language: str) -> None:
    result = not_assessed()
    draft = compose(result, language)
    assert "SUI-002" in draft.findings
    assert "needed are 8" in draft.findings
    assert contradictions(draft, result) == ()
    if language == "ja":
        assert REASONS["SUI-002"] in draft.findings


def test_smaller_lesions_are_summed() -> None:
    lesions = [(float(10 - k), "right", None) for k in range(8)]
    findings = compose(found(lesions), "en").findings
    assert findings.count("\nLesion ") == LISTED_LESIONS
    assert "The remaining 3 lesions together: 12.0 mL." in findings


def test_every_refusal_has_a_japanese_reason() -> None:
    codes = {cls.code for cls in register() if cls.code.startswith(("SUI-", "SER-"))}
    assert codes <= set(REASONS)


def test_both_languages_know_the_same_limitations() -> None:
    assert set(English.limitations) == set(Japanese.limitations)


def test_every_limitation_a_model_states_has_a_sentence() -> None:
    cards = [each.card for each in Registry().list()]
    infarct = {key for card in cards if card.finding.value == INFARCT_CODE for key in card.limitations}
    others = {key for card in cards if card.finding.value != INFARCT_CODE for key in card.limitations}
    for words, general in ((English, GeneralEnglish), (Japanese, GeneralJapanese)):
        assert infarct | set(LIMITATIONS.values()) <= set(words.limitations)
        assert others <= set(general.limitations)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'de'"):
        compose(nothing_found(), "de")


def random_result(rng: random.Random) -> StudyResult:
    """Any result: 1–12 lesions from 0.001 to 400 mL, any sides, ADC known or not; or nothing found; or refused."""
    kind = rng.random()
    if kind < 0.1:
        return not_assessed()
    limit, threshold = (rng.choice([None, round(10 ** rng.uniform(-3, 0.5), 4)]) for _ in range(2))
    if kind < 0.25:
        return nothing_found(limit, threshold)
    sides = rng.choice([["left"], ["right"], ["left", "right"], ["left", "right", "bilateral", "midline", "unknown"]])
    lesions = [
        (10 ** rng.uniform(-3, 2.6), rng.choice(sides), rng.choice([None, rng.uniform(200, 700)]))
        for _ in range(rng.randint(1, 12))
    ]
    return found(sorted(lesions, key=lambda x: -x[0]), limit=limit, threshold=threshold)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_composed_text_never_contradicts_its_result(language: str) -> None:
    rng = random.Random(20)
    for _ in range(150):
        result = random_result(rng)
        draft = compose(result, language)
        assert contradictions(draft, result) == (), (draft, result)
        assert omissions(draft, result) == ()
        assert compose(result, language) == draft


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_reason_without_full_stop_does_not_run_into_the_next_sentence(language: str) -> None:
    text = compose(not_assessed("SUI-003", "part of it is not shown"), language).findings
    assert "part of it is not shown. " in text
