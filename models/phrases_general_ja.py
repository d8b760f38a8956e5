"""Japanese sentences for results of any model: regions and findings as they are, without a diagnosis of ours."""

from __future__ import annotations

from typing import ClassVar

from models.phrases_ja import Japanese, volume
from models.report_facts import ReportFacts
from models.results import Finding

TERMS = {
    "Atelectasis": "無気肺",
    "Cardiomegaly": "心拡大",
    "Consolidation": "コンソリデーション",
    "Emphysema": "肺気腫",
    "Enlarged Cardiomediastinum": "縦隔陰影拡大",
    "Fibrosis": "線維化",
    "Fracture": "骨折",
    "Hernia": "ヘルニア",
    "Infiltration": "浸潤影",
    "Lung Lesion": "肺病変",
    "Lung Opacity": "肺野陰影",
    "Mass": "腫瘤影",
    "Nodule": "結節影",
    "Pleural Thickening": "胸膜肥厚",
    "Pleural effusion": "胸水",
    "Ascites": "腹水",
    "Splenomegaly": "脾腫",
    "Hepatic steatosis": "脂肪肝",
    "Gallstones": "胆石",
    "Hydronephrosis": "水腎症",
    "Mild nonproliferative diabetic retinopathy": "軽症非増殖糖尿病網膜症",
    "Moderate nonproliferative diabetic retinopathy": "中等症非増殖糖尿病網膜症",
    "Severe nonproliferative diabetic retinopathy": "重症非増殖糖尿病網膜症",
    "Proliferative diabetic retinopathy": "増殖糖尿病網膜症",
    "Pneumonia": "肺炎",
    "Pneumothorax": "気胸",
    "Pulmonary edema": "肺水腫",
}
"""Names of findings; what is not here is written in English."""


class GeneralJapanese(Japanese):
    """Wording for whatever is not infarct on diffusion MR. Every method returns whole sentences, or an empty string."""

    always_stated: ClassVar[tuple[str, ...]] = ("nothing_marked_is_not_normal",)
    stated_when_found: ClassVar[tuple[str, ...]] = ()
    limitations: ClassVar[dict[str, str]] = {
        **Japanese.limitations,
        "nothing_marked_is_not_normal": "表示・記載のない部位が正常であることを意味しない。",
        "earlier_image_seen": "本モデルは同一患者の過去画像と併せて本画像を評価した。",
        "prompted": "領域は指示された部位のみを示す。その他の部位は評価していない。",
        "scores_are_no_diagnosis": "スコアは疾患の確率ではない。",
        "codes_of_patients": "スコアは類似の画像の患者に付けられた病名コードに対するものであり、画像所見ではない。",
        "later_diagnoses": "スコアは撮影後数年間の診断に対するものであり、画像上の所見を示すものではない。",
        "language_model": "言語モデルは存在しない所見を記載し、存在する所見を見落とすことがある。各文の確認が必要である。",
        "pointing_cut_off": "モデルの出力は途中で打ち切られた。表示のない部位は評価していない。",
        "always_a_box": "本モデルは所見の有無にかかわらず、所見ごとに必ず一か所を示す。",
        "boxes_without_probability": "枠は言語モデルによるもので、確率を伴わない。",
    }

    def found(self, facts: ReportFacts) -> str:
        """Number and total of the regions; nothing where there are only findings."""
        if not facts.lesions:
            return ""
        return f"{facts.count}か所の領域を示す。総体積は{volume(facts.total_ml, facts.total_range_ml)}である。"

    def finding(self, finding: Finding) -> str:
        """One line for one finding."""
        verdict = "以上" if finding.present else "未満"
        point = "" if finding.operating_point is None else f"（動作点{finding.operating_point:.2f}{verdict}）"
        return f"{_term(finding)}：スコア{finding.probability:.2f}{point}。"

    def found_impression(self, facts: ReportFacts) -> str:
        """What was marked, and which findings count as present."""
        present = "、".join(_term(each) for each in facts.findings if each.present)
        return f"{self.found(facts)}{f'AIの指摘：{present}。' if present else ''}"

    def nothing_found(self) -> str:
        """Findings when nothing was marked."""
        return "AIが示した領域はなく、動作点に達した所見もない。"

    def nothing_found_impression(self, facts: ReportFacts) -> str:
        """That nothing was flagged, and what that does not mean."""
        return "AIが指摘した所見はない。ただし、疾患を否定するものではない。"

    def not_assessed_impression(self) -> str:
        """That nothing is stated."""
        return "AIによる評価は行われていない。この画像については何も判断しない。"


def _term(finding: Finding) -> str:
    return TERMS.get(finding.concept.meaning, finding.concept.meaning)
