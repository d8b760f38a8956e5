"""The consistency check: planted errors are named, true sentences pass, in both languages."""

from __future__ import annotations

import pytest

from models.consistency import contradictions, omissions
from models.results import Draft, StudyResult
from tests.unit.models_report.builders import found, not_assessed, nothing_found

LEFT = found([(12.4, "left", 480.0)])
TWO_LEFT = found([(12.4, "left", 480.0), (3.1, "left", 520.0)])
BOTH = found([(30.2, "left", 480.0), (12.0, "right", 510.0), (0.5, "right", None)])
MIDLINE_TOO = found([(12.4, "left", None), (1.0, "midline", None)])
SIDE_UNKNOWN_TOO = found([(12.4, "left", None), (1.0, "unknown", None)])
NONE = nothing_found(limit=0.12, threshold=0.05)
REFUSED = not_assessed()


def check(text: str, language: str, result: StudyResult) -> tuple[str, ...]:
    return contradictions(Draft(language=language, findings="", impression=text), result)


TRUE = [
    ("en", LEFT, "Acute infarct in the left hemisphere, 12.4 mL."),
    ("en", LEFT, "Acute infarct on the left, about 12 cc."),
    ("en", LEFT, "A single left-sided infarct of 12.4 cm³ (mean ADC 0.48 × 10⁻³ mm²/s)."),
    ("en", LEFT, "Restricted diffusion on the left: 12.4 mL. No other restricted diffusion."),
    ("en", LEFT, "Left infarct, 12.4 mL; no infarct on the right."),
    ("en", LEFT, "One acute infarct on the left of 10 to 15 mL."),
    ("en", LEFT, "Left infarct, less than 20 mL, b=1000 s/mm2."),
    ("en", TWO_LEFT, "Two acute infarcts on the left, total volume 15.5 mL, the largest 12.4 mL."),
    ("en", TWO_LEFT, "Multiple left infarcts with volumes of 12.4 and 3.1 mL."),
    ("en", BOTH, "Bilateral acute infarcts: 3 lesions, 42.7 mL in total, the largest 30.2 mL on the left."),
    ("en", BOTH, "Infarcts on both sides: left 30.2 mL, right 12.5 mL."),
    ("en", BOTH, "Infarcts of 30.2 mL on the left and 12.0 mL on the right, and the other 1 lesion 0.50 mL."),
    ("en", NONE, "No evidence of acute infarct."),
    ("en", NONE, "Diffusion is normal. This does not exclude an infarct."),
    ("en", NONE, "There is no restricted diffusion above 0.05 mL."),
    ("ja", LEFT, "左大脳半球に12.4 mLの急性期梗塞を認める。"),
    ("ja", LEFT, "左側に急性期梗塞を１か所認め、体積は１２．４ｍＬである。"),
    ("ja", LEFT, "左に拡散制限域を一か所認める（12.4㎖、ADC 480×10⁻⁶ mm²/s）。右には認めない。"),
    ("ja", LEFT, "左に急性期梗塞あり、12.4mL。他に拡散制限を認めない。"),
    ("ja", TWO_LEFT, "左側に多発する急性期梗塞を認め、合計15.5 mL、最大12.4 mLである。"),
    ("ja", BOTH, "両側に急性期梗塞を認める。左側30.2 mL、右側12.5 mL。"),
    ("ja", BOTH, "左右に計3病変の急性期梗塞を認める。総体積42.7 mL。"),
    ("ja", NONE, "拡散制限を示す病変を認めない。"),
    ("ja", NONE, "急性期梗塞を示唆する異常信号はみられない。梗塞を否定するものではない。"),
]

FALSE = [
    # presence
    ("en", LEFT, "No acute infarct.", "denies"),
    ("en", LEFT, "Unremarkable study.", "denies"),
    ("en", LEFT, "There is no restricted diffusion on the left.", "denies"),
    ("en", LEFT, "Diffusion does not show an infarct of 12.4 mL.", "denies"),
    ("en", LEFT, "Acute infarct cannot be excluded.", "does not state"),
    ("en", LEFT, "The left hemisphere, 12.4 mL.", "does not state"),
    ("en", LEFT, "It is not negative for infarct, 12.4 mL.", "asserts and denies"),
    ("en", NONE, "Acute infarct in the left hemisphere.", "nothing was found"),
    ("en", NONE, "Possible small infarct.", "nothing was found"),
    ("en", NONE, "No motion artefact, acute infarct on the left.", "asserts and denies"),
    ("en", NONE, "No acute infarct. Left: 3 mL.", "was not measured"),
    ("en", NONE, "No infarct (detection limit 1.2 mL).", "detection limit"),
    ("en", REFUSED, "No acute infarct.", "nothing was assessed"),
    ("en", REFUSED, "Acute infarct on the left.", "nothing was assessed"),
    ("ja", LEFT, "急性期梗塞を認めない。", "denies"),
    ("ja", LEFT, "左側に拡散制限域はみられません。", "denies"),
    ("ja", LEFT, "異常所見なし。", "denies"),
    ("ja", LEFT, "左側に急性期梗塞を認めないとは言えない。", "asserts and denies"),
    ("ja", NONE, "左側に急性期梗塞を認める。", "nothing was found"),
    ("ja", NONE, "急性期梗塞の疑い。", "nothing was found"),
    ("ja", REFUSED, "急性期梗塞を認めない。", "nothing was assessed"),
    # side
    ("en", LEFT, "Acute infarct in the right hemisphere, 12.4 mL.", "side right"),
    ("en", LEFT, "Bilateral acute infarcts, 12.4 mL.", "side bilateral"),
    ("en", LEFT, "Acute infarct on the left, 12.4 mL, with a contralateral lesion.", "side bilateral"),
    ("en", LEFT, "Acute infarct in the midline, 12.4 mL.", "side midline"),
    ("en", BOTH, "Acute infarct on the left, 42.7 mL.", "is named, measured is"),
    ("en", BOTH, "Bilateral infarcts: left 12.5 mL, right 30.2 mL.", "on the left"),
    ("en", MIDLINE_TOO, "Infarcts on the left: 2 lesions, 13.4 mL.", "midline too"),
    ("en", SIDE_UNKNOWN_TOO, "Infarct on the left, consistent with stroke: 2 lesions, 13.4 mL.", "count"),
    ("en", BOTH, "Bilateral infarcts of 42.7 mL: lesion 1 on the right.", "lesion 1 is said"),
    ("ja", LEFT, "右側に急性期梗塞を認める（12.4 mL）。", "side right"),
    ("ja", LEFT, "両側に急性期梗塞を認める（12.4 mL）。", "side bilateral"),
    ("ja", LEFT, "左右の大脳半球に急性期梗塞を認める（12.4 mL）。", "side bilateral"),
    ("ja", BOTH, "右側に急性期梗塞を認める（42.7 mL）。", "is named, measured is"),
    ("ja", BOTH, "両側に急性期梗塞を認める。左側12.5 mL、右側30.2 mL。", "on the left"),
    # number
    ("en", LEFT, "Two acute infarcts on the left, 12.4 mL.", "count"),
    ("en", LEFT, "Multiple acute infarcts on the left, 12.4 mL.", "count"),
    ("en", TWO_LEFT, "A single left infarct, 15.5 mL.", "count"),
    ("en", TWO_LEFT, "12 acute lesions on the left, 15.5 mL.", "count"),
    ("en", BOTH, "Bilateral infarcts: 2 lesions on the left, 1 lesion on the right.", "count"),
    ("en", TWO_LEFT, "Infarcts on the left, 15.5 mL, see lesion 3.", "lesion 3"),
    ("ja", LEFT, "左側に急性期梗塞を2か所認める（12.4 mL）。", "count"),
    ("ja", LEFT, "左側に急性期梗塞を３個認める（12.4 mL）。", "count"),
    ("ja", TWO_LEFT, "左側に単発の急性期梗塞を認める（15.5 mL）。", "count"),
    ("ja", TWO_LEFT, "左側に急性期梗塞を十二病変認める（15.5 mL）。", "count"),
    # size
    ("en", LEFT, "Acute infarct on the left, 124 mL.", "124"),
    ("en", LEFT, "Acute infarct on the left, 1.24 mL.", "1.24"),
    ("en", LEFT, "Acute infarct on the left, 12.5 mL.", "12.5"),
    ("en", LEFT, "Acute infarct on the left, 0.0124 mL.", "0.0124"),
    ("en", LEFT, "Acute infarct on the left, 12.4 mm³.", "12.4"),
    ("en", LEFT, "Acute infarct on the left, 12.4 litres.", "12.4"),
    ("en", LEFT, "Acute infarct on the left, more than 70 mL.", "70"),
    ("en", LEFT, "Acute infarct on the left, twenty mL.", "20"),
    ("en", LEFT, "Acute infarct on the left, 12.4.", "nothing measured"),
    ("en", TWO_LEFT, "Infarcts on the left, total volume 12.4 mL.", "total volume"),
    ("en", TWO_LEFT, "Infarcts on the left, 15.5 mL, the largest 3.1 mL.", "largest"),
    ("en", LEFT, "Acute infarct on the left, 12.4 mL, ADC 840 × 10⁻⁶ mm²/s.", "ADC"),
    ("en", LEFT, "Acute infarct on the left, 12.4 mL, ADC 0.48 × 10⁻⁶ mm²/s.", "ADC"),
    ("ja", LEFT, "左側に急性期梗塞を認める（１２４ｍＬ）。", "124"),
    ("ja", LEFT, "左側に急性期梗塞を認める（12.4リットル）。", "12.4"),
    ("ja", LEFT, "左側に急性期梗塞を認める（10 mL未満）。", "10"),
    ("ja", LEFT, "左側に急性期梗塞を認める（７０㎖以上）。", "70"),
    ("ja", TWO_LEFT, "左側に急性期梗塞を認める（総体積3.1 mL）。", "total volume"),
    ("ja", NONE, "急性期梗塞を認めない（検出限界0.5 mL）。", "detection limit"),
    # what nobody measured
    ("en", LEFT, "Acute infarct on the left, 12.4 mL, with haemorrhage.", "haemorrhage"),
    ("en", LEFT, "Acute left MCA territory infarct, 12.4 mL.", "site"),
    ("en", LEFT, "Chronic infarct on the left, 12.4 mL.", "age"),
    ("en", LEFT, "Acute infarct on the left, 12.4 mL, 34 mm across.", "length"),
    ("ja", LEFT, "左中大脳動脈閉塞による急性期梗塞を認める（12.4 mL）。", "vessel"),
    ("ja", LEFT, "左小脳に急性期梗塞を認める（12.4 mL）。", "site"),
    ("ja", LEFT, "左側に陳旧性梗塞を認める（12.4 mL）。", "age"),
    # language
    ("ja", LEFT, "Acute infarct on the left, 12.4 mL.", "language"),
    ("en", LEFT, "左側に急性期梗塞を認める（12.4 mL）。", "language"),
]


@pytest.mark.parametrize(("language", "result", "text"), TRUE, ids=[t[2] for t in TRUE])
def test_a_true_sentence_passes(language: str, result: StudyResult, text: str) -> None:
    assert check(text, language, result) == ()


@pytest.mark.parametrize(("language", "result", "text", "named"), FALSE, ids=[f[2] for f in FALSE])
def test_a_planted_error_is_named(language: str, result: StudyResult, text: str, named: str) -> None:
    problems = check(text, language, result)
    assert any(named in problem for problem in problems), problems


def test_an_error_in_the_findings_is_found_too() -> None:
    draft = Draft("en", "Lesion 1: right, 12.4 mL.", "Acute infarct on the left, 12.4 mL.")
    assert any("right" in problem for problem in contradictions(draft, LEFT))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Acute infarct.", {"total volume", "number of lesions", "side"}),
        ("Acute infarct on the left: 1 lesion.", {"total volume"}),
        ("One acute infarct, 12.4 mL.", {"side"}),
        ("One acute infarct on the left, 12.4 mL.", set()),
    ],
)
def test_a_true_sentence_that_hides_something_is_incomplete(text: str, missing: set[str]) -> None:
    found_missing = omissions(Draft("en", "", text), LEFT)
    assert len(found_missing) == len(missing)
    assert all(any(word in line for line in found_missing) for word in missing)
