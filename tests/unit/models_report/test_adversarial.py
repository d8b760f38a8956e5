"""Sentences made to slip through the check of generated text: true words with a lie beside them, English and Japanese."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.composer import compose
from models.export.stroke_impression_text import sentence
from models.report import objections
from models.report_facts import ReportFacts
from models.results import Change, CodedTerm, Comparison, Draft, Finding, Outcome, StudyResult
from tests.unit.models_report.builders import found, nothing_found

TWO_LEFT = found([(12.4, "left", 480.0), (3.1, "left", 520.0)])
NONE = nothing_found(limit=0.12, threshold=0.05)
TRUE = {
    "en": "Two left infarcts, 15.5 mL in total.",
    "ja": "左側に急性期梗塞を2病変認め、総体積15.5 mL。",
}


def radiograph(**present: bool) -> StudyResult:
    findings = tuple(
        Finding(CodedTerm(name, "99T", name.replace("_", " ")), 0.95 if there else 0.1, 0.5, there)
        for name, there in present.items()
    )
    chest = CodedTerm("51185008", "SCT", "Chest")
    return replace(
        nothing_found(None, None),
        outcome=Outcome.FOUND if any(present.values()) else Outcome.NOTHING_FOUND,
        finding=CodedTerm("404684003", "SCT", "Clinical finding"),
        site=chest,
        total_ml=None,
        findings=findings,
    )


PNEUMOTHORAX = radiograph(Pneumothorax=True, Pleural_effusion=False, Cardiomegaly=False)
EFFUSION = radiograph(Pleural_effusion=True, Pneumothorax=False, Consolidation=False)
HEART = radiograph(Cardiomegaly=True, Pneumothorax=False)
TUBERCULOSIS = radiograph(Tuberculosis=True, Pneumothorax=False)

BESIDE_INFARCTS_EN = (
    "Two left infarcts, 15.5 mL in total. The RIGHT hemisphere is involved.",
    "Two left infarcts, 15.5 mL in total, and dextral involvement.",
    "Two infarcts of the L hemisphere, total 15.5 mL; R hemisphere also shows two lesions.",
    "Two left infarcts with total of 15.5 mL. There is also right-sided restricted diffusion.",
    "Two left infarcts, 15.5 mL in total. Both sides are affected.",
    "Two left infarcts, 15.5 mL in total. The other hemisphere is affected too.",
    "Two left infarcts, 15.5 mL in total; a third one was seen.",
    "Two left infarcts, 15.5 mL in total, plus a dozen punctate ones.",
    "Two left infarcts, 15.5 mL in total. A couple more on the left.",
    "Two left infarcts, total volume 15.5 mL. The findings are artefactual.",
    "Two left infarcts, total volume 15.5 mL. These most likely represent T2 shine-through.",
    "Two left infarcts, total 15.5 mL. On review, none of this is real.",
    "Two left infarcts, total 15.5 mL, were suspected but not confirmed.",
    "Two left infarcts, total 15.5 mL; this is a false positive.",
    "Two left infarcts totalling 15.5 mL can be disregarded.",
    "Two left infarcts totalling 15.5 mL, clinically insignificant.",
    "Two left infarcts totalling fifteen point five mL and one of ninety mL.",
    "Two left infarcts totalling 15.5 mL. Thirty mL of tissue is affected.",
    "Two left infarcts totalling 15.5 mL. A huge area is affected.",
    "Two left infarcts totalling 15.5 mL, involving half the hemisphere.",
    "Two left infarcts totalling 15.5 mL. One-third of the left hemisphere.",
    "Two left infarcts totalling 15.5 mL with the larger on the right side.",
    "Two left infarcts, 15.5 mL in total. Tiny, lacunar.",
    "Two left infarcts, 15.5 mL in total. Patient is eligible for thrombolysis.",
    "Two left infarcts, 15.5 mL in total. ASPECTS seven.",
    "Two left infarcts, 15.5 mL in total. No follow-up needed.",
    "Two left infarcts, 15.5 mL in total. Study is otherwise normal with intact vessels.",
    "Two left infarcts, 15.5 mL in total. Wake-up stroke within the treatment window.",
    "Two left infarcts, 15.5 mL in total. Seen in a 67-year-old man.",
    "Two left infarcts, 15.5 mL in total. Sinister side spared.",
    "Two left infarcts, 15.5 mL in total. The left side is spared.",
    "Two left infarcts, 15.5 mL in total. Diffusion is within normal limits.",
    "Two left infarcts, 15.5 mL in total. Brain parenchyma intact.",
    "Two left infarcts, 15.5 mL in total. Clear of acute ischaemia.",
    "Two left infarcts, 15.5 mL in total. Old insult.",
    "Two left infarcts, 15.5 mL in total. Compatible with seizure.",
)
BESIDE_INFARCTS_JA = (
    "左側に急性期梗塞を２病変認め、総体積15.5 mL。右側にも認める。",
    "左側に急性期梗塞を二病変認め、総体積15.5 mL。健側にも信号変化を認める。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。反対側にも及ぶ。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。みぎ側にも認める。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。ミギにもあり。",
    "左側に急性期梗塞を2病変認め、総体積十五・五mL。最大は三十mL。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。最大は九十ミリリットル。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。体積は百二十mL。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。病変は三つ。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。病変は参箇所。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。三か所目もある。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。無数の小病変を伴う。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。アーチファクトである。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。偽陽性と考える。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。T2 shine-throughと考える。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。病的意義は乏しい。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。正常範囲内である。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。問題なし。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。特記すべきことなし。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。急性期病変とは考えにくい。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。梗塞は否定できる。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。梗塞の可能性は低い。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。半球の半分を占める。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。広範である。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。発症早期。血栓溶解療法の適応である。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。経過観察は不要。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。直径三センチ。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。左右ともに障害される。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。右片麻痺の責任病巣である。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。左側は保たれる。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。てんかん後変化が疑われる。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。古い病変である。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。67歳男性。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。大部分は右。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。両前頭葉。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。両半球性。",
    "左側に急性期梗塞を2病変認め、総体積15.5 mL。両眼窩側。",
)
BESIDE_NOTHING_EN = (
    "No acute infarct. Left-sided weakness is explained by the bright area.",
    "No acute infarct. A bright spot in the left hemisphere.",
    "No acute infarct; infarction excluded with certainty.",
    "No acute infarct. Stroke is ruled out.",
    "No acute infarct, but early cytotoxic oedema.",
)
BESIDE_NOTHING_JA = (
    "急性期梗塞を認めない。左側に淡い明るい領域がある。",
    "急性期梗塞を認めない。梗塞は完全に否定できる。",
    "急性期梗塞を認めないが、早期虚血性変化を疑う。",
)
PNEUMOTHORAX_EN = (
    "Pneumothorax, pleural effusion and cardiomegaly are absent.",
    "Pneumothorax and effusion are not seen.",
    "Pneumothorax: negative.",
    "No effusion, pneumothorax or cardiomegaly.",
    "There is no pleural effusion, pneumothorax, or cardiomegaly.",
    "Pneumothorax is unlikely.",
    "Small possibility of pneumothorax.",
    "Pneumothorax has resolved.",
    "Lungs are clear. Pneumothorax suspected clinically.",
    "Pneumothorax is a false alarm.",
    "Pneumothorax, tuberculosis and lung cancer.",
    "Pneumothorax with aortic dissection.",
    "Pneumothorax of 30 %.",
    "Pneumothorax, large.",
    "Pneumothorax on the right.",
    "Normal chest. Pneumothorax artefact.",
    "Pneumothorax? None.",
    "Pneumothorax. The chest is normal.",
    "Pneumothorax excluded.",
    "Pneumothorax. Pneumothorax cannot be seen here.",
    "Pneumothorax. Possible pleural effusion.",
    "Pneumothorax, and possibly cardiomegaly.",
    "No pneumothorax is possible to see.",
    "Pneumothorax is not likely.",
    "Possible absence of pneumothorax.",
    "Collapsed lung is absent; pneumothorax.",
    "Pneumothorax since yesterday.",
    "Pneumothorax in the R lung",
    "Pneumothorax, intubated, tube too deep.",
    "Pneumothorax; no acute disease.",
)
PNEUMOTHORAX_JA = (
    "気胸、胸水を認めない。",
    "気胸、胸水、心拡大は認めない。",
    "気胸や胸水を認めない。",
    "気胸および胸水なし。",
    "気胸・胸水を認めず。",
    "気胸は明らかでない。",
    "気胸は明らかではない。",
    "気胸は指摘できない。",
    "気胸の可能性は低い。",
    "気胸は疑わない。",
    "気胸の所見に乏しい。",
    "気胸は改善。",
    "気胸：（－）",
    "気胸：陰性",
    "気胸 (-)",
    "気胸を認める。結核を認める。",
    "右気胸を認める。",
    "気胸を認める。胸水の可能性あり。",
    "気胸を認める。異常なし。",
    "気胸は考えにくい。",
    "気胸はない。",
    "気胸は否定的。",
    "気胸は除外される。",
    "気胸を三十％認める。",
    "気胸を認める。肺癌を認める。",
    "気胸は存在しない。",
    "気胸像は見えない。",
    "気胸は確認できない。",
    "気胸は不明瞭。",
    "左右に気胸を認める。",
    "明らかな異常を認めない。気胸。",
)

TAKEN_BACK_EN = (
    "Not acute.",
    "No core.",
    "The largest is 3.1 mL.",
    "The smallest measures 12.4 mL.",
    "Restriction is absent.",
    "These are not seen on the study.",
    "Both measured 7.75 mL.",
    "This is not present.",
    "None is evident.",
    "Neither is acute.",
    "The result is excluded.",
    "Volumes are above 100 mL.",
    "There are more.",
    "There are others elsewhere.",
    "Less than two are infarcts.",
    "Left is the side that is not involved.",
    "On one side or the other.",
    "The left hemisphere is not involved.",
    "Only one is acute.",
    "Each hemisphere is involved.",
    "No acute findings.",
    "The brain has no findings.",
    "Nothing is seen.",
    "Not detectable.",
    "Signal is not increased.",
    "One of these is not on the left.",
    "The infarcts are not located on the left.",
    "The 2 are likely one.",
    "Total is not 15.5 mL.",
)
TAKEN_BACK_JA = (
    "急性期ではない。",
    "認められない。",
    "最大は3.1 mL。",
    "他の部位にも多発。",
    "存在しない。",
    "明らかでない。",
    "左側ではない。",
    "検出されない。",
    "有意ではない。",
    "2病変は異常ではない。",
    "左側にはない。",
    "病変は1個。",
    "これらは見られない。",
    "全体に認める。",
    "各半球に認める。",
    "他にも認める。",
    "他側にも認める。",
    "所見なし。",
    "画像上示されない。",
    "一つは左ではない。",
    "急性期の所見はない。",
    "指摘できない。",
    "示唆されない。",
    "総体積は15.5 mLではない。",
    "左以外にも認める。",
    "脳全体に認める。",
    "確認できない。",
    "疑いはない。",
)

CASES = [
    *((TWO_LEFT, "en", f"{TRUE['en']} {text}") for text in TAKEN_BACK_EN),
    *((TWO_LEFT, "ja", f"{TRUE['ja']}{text}") for text in TAKEN_BACK_JA),
    *((TWO_LEFT, "en", text) for text in BESIDE_INFARCTS_EN),
    *((TWO_LEFT, "ja", text) for text in BESIDE_INFARCTS_JA),
    *((NONE, "en", text) for text in BESIDE_NOTHING_EN),
    *((NONE, "ja", text) for text in BESIDE_NOTHING_JA),
    *((PNEUMOTHORAX, "en", text) for text in PNEUMOTHORAX_EN),
    *((PNEUMOTHORAX, "ja", text) for text in PNEUMOTHORAX_JA),
    (EFFUSION, "ja", "気胸、胸水を認めない。"),
    (EFFUSION, "ja", "胸水、気胸を認めない。"),
    (EFFUSION, "ja", "左胸水を認める。"),
    (TUBERCULOSIS, "en", "No tuberculosis. No pneumothorax."),
    (TUBERCULOSIS, "en", "No pneumothorax."),
]
STAND = [
    (EFFUSION, "en", "Pleural effusion is present. No pneumothorax."),
    (EFFUSION, "en", "Pleural effusion. There is no pneumothorax or consolidation."),
    (EFFUSION, "en", "No pneumothorax, consolidation. Pleural effusion is seen."),
    (EFFUSION, "en", "Pleural effusion, no pneumothorax. No other abnormality."),
    (EFFUSION, "ja", "胸水を認める。気胸、コンソリデーションを認めない。"),
    (EFFUSION, "ja", "胸水を認め、気胸は認めない。"),
    (EFFUSION, "ja", "胸水あり、気胸なし。"),
    (HEART, "en", "Enlarged heart. No pneumothorax."),
    (HEART, "ja", "心拡大を認める。気胸を認めない。"),
    (TUBERCULOSIS, "en", "Tuberculosis is suspected. No pneumothorax."),
    (
        TWO_LEFT,
        "en",
        "Two acute ischaemic lesions in the left hemisphere with a total volume of 15.5 mL are identified.",
    ),
    (TWO_LEFT, "ja", "左大脳半球に急性期梗塞を二か所認めます。総体積は１５．５ｍＬです。"),
    (TWO_LEFT, "en", f"{TRUE['en']} No infarct on the right. No other lesion. An infarct cannot be excluded."),
    (TWO_LEFT, "ja", f"{TRUE['ja']}右側には認めない。他に病変を認めない。"),
    (NONE, "en", "No evidence of acute infarction. An infarct below the detection limit cannot be excluded."),
    (NONE, "ja", "急性期梗塞を示唆する所見を認めません。検出限界以下の梗塞は否定できません。"),
]


@pytest.mark.parametrize(("result", "language", "text"), CASES)
def test_a_lie_beside_the_truth_is_caught(result: StudyResult, language: str, text: str) -> None:
    assert objections(Draft(language, "", text), result, None)


@pytest.mark.parametrize(("result", "language", "text"), STAND)
def test_the_truth_in_other_words_stands(result: StudyResult, language: str, text: str) -> None:
    assert objections(Draft(language, "", text), result, None) == ()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("result", [PNEUMOTHORAX, HEART, TUBERCULOSIS, TWO_LEFT, NONE])
def test_what_the_composer_says_stands(result: StudyResult, language: str) -> None:
    assert objections(replace(compose(result, language), findings=""), result, None) == ()


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("result", [TWO_LEFT, NONE, found([(30.2, "left", 480.0), (12.0, "right", 510.0)])])
def test_what_the_demonstration_model_learnt_to_say_stands(result: StudyResult, language: str) -> None:
    assert objections(Draft(language, "", sentence(ReportFacts.of(result), language)), result, None) == ()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_truth_alone_stands(language: str) -> None:
    assert objections(Draft(language, "", TRUE[language]), TWO_LEFT, None) == ()


@pytest.mark.parametrize(("language", "name"), [("en", "kowalczyk"), ("ja", "御手洗")])
def test_an_objection_repeats_no_word_that_may_be_a_name(language: str, name: str) -> None:
    found_wrong = objections(Draft(language, "", f"{TRUE[language]} {name}。"), TWO_LEFT, None)
    assert found_wrong and name not in " ".join(found_wrong)


@pytest.mark.parametrize(
    ("language", "text"), [("en", "No change since the prior study."), ("ja", "前回と比べ変化を認めない。")]
)
def test_no_change_denies_no_finding(language: str, text: str) -> None:
    unchanged = Comparison("1", "2", "3", "4", "20260101", 15.5, 15.4, Change.UNCHANGED)
    assert objections(Draft(language, "", f"{TRUE[language]} {text}"), TWO_LEFT, unchanged) == ()
