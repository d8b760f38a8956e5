"""Japanese sentences of the deterministic report.

The side is written 左側/右側の脳実質, not 大脳半球: the mask does not tell the cerebrum from the cerebellum.
"""

from __future__ import annotations

from typing import ClassVar

from models.remedies import remedy_in
from models.report_facts import Lesion, ReportFacts, format_adc, format_ml, format_range, sentence
from models.results import Finding, Laterality, ModelReference, RefusalReason

_WHERE = {
    Laterality.LEFT: "左側の脳実質",
    Laterality.RIGHT: "右側の脳実質",
    Laterality.BILATERAL: "両側の脳実質",
    Laterality.MIDLINE: "脳の正中部",
    Laterality.UNKNOWN: "脳実質",
}
_ALSO = {Laterality.MIDLINE: "と正中部", Laterality.UNKNOWN: "（一部は側性不明）"}
_SIDE = {
    Laterality.LEFT: "左側",
    Laterality.RIGHT: "右側",
    Laterality.BILATERAL: "両側",
    Laterality.MIDLINE: "正中部",
    Laterality.UNKNOWN: "側性不明",
}
REASONS = {
    "SUI-001": "撮像範囲が脳全体を十分に含んでいない。",
    "SUI-002": "信号雑音比が低く、モデルの検出限界を保証できない。",
    "SUI-003": "脳が画像の端で切れている。",
    "SUI-004": "画像内に脳を同定できない。",
    "SUI-005": "患者自身の脳組織を正常の基準として用いることができない。広範またはびまん性の梗塞の可能性がある。",
    "SUI-006": "検査の条件（年齢、磁場強度、造影の有無、画素間隔、撮影範囲）が本モデルの適用範囲を外れている。",
    "SER-001": "スライスが法線方向に対して傾斜している（ガントリチルト）。",
    "SER-002": "スライスが欠落している。",
    "SER-003": "同一位置の画像が重複している。",
    "SER-004": "スライス間隔が一定でない。",
    "SER-005": "シリーズ内で画像の方向が一致していない。",
    "SER-006": "位置決め画像である。",
    "SER-007": "スライス数が不足している。",
    "SER-008": "画素値の単位を特定できない。",
    "SER-009": "画素データが含まれていない。",
    "SER-010": "画素データを復号できない。",
    "SER-011": "解析に必要なシリーズが検査に含まれていない。",
    "SER-012": "条件を満たすシリーズが複数あり、一つに決められない。",
    "SER-013": "入力シリーズの画素格子が一致していない。",
    "SER-014": "位置、方向または画素間隔の情報がない、または使用できない。",
    "SER-015": "複数の患者の画像が混在している。",
    "SER-016": "対応していない種類の画像である。",
    "SER-017": "ファイルが単一の検査に属していない。",
    "SER-018": "ADCマップが元の拡散強調像と矛盾している。",
    "SER-019": "描かれた印では部位を特定できない。",
}
"""Why nothing was assessed, by error code; other codes are given with their English message alone."""


THRESHOLDS = {
    "score_margin": "各判定条件（ADC比など）の余裕",
    "edge_fraction": "辺縁とみなすコントラストの割合",
    "threshold": "確率",
}
"""Names of thresholds that are swept; what is not here is named as the card does."""


def volume(volume_ml: float, range_ml: tuple[float, float] | None) -> str:
    """A volume with its unit and, in brackets, its range over the decision thresholds."""
    spread = "" if range_ml is None else format_range(range_ml, "〜")
    return f"{format_ml(volume_ml)} mL" + (f"（判定閾値による範囲{spread} mL）" if spread else "")


def _where(facts: ReportFacts) -> str:
    first, *also = facts.sides
    return _WHERE[first] + "".join(_ALSO[side] for side in also) + "に"


class Japanese:
    """Wording for infarct on diffusion MR. Every method returns whole sentences, or an empty string."""

    language = "ja"
    separator = ""
    always_stated: ClassVar[tuple[str, ...]] = ("negative_is_not_exclusion", "subacute_missed")
    stated_when_found: ClassVar[tuple[str, ...]] = ("not_specific",)
    limitations: ClassVar[dict[str, str]] = {
        "negative_is_not_exclusion": "「拡散制限域を認めない」ことは「梗塞がない」ことを意味しない。",
        "baseline_not_validated": "本手法はベースライン手法であり、臨床的妥当性は検証されていない。",
        "not_validated": "本モデルは当施設で臨床的に検証されていない。",
        "subacute_missed": "発症後およそ10日を過ぎるとADCが偽正常化するため、梗塞を検出できないことがある。",
        "subacute_mode": (
            "亜急性期モード：ADCの低下を伴わず拡散強調像のみで高信号を示す領域も報告した。本検査の画像のみでは、T2シャインスルー"
            "（陳旧性梗塞、グリオーシス、浮腫、脱髄など）と亜急性期梗塞とを区別できない。淡い領域、表在性または左右対称の領域は"
            "検出できないことがある。このモードでは体積の範囲を示さない。"
        ),
        "not_specific": (
            "拡散制限は梗塞に特異的ではない。けいれん発作、低血糖、膿瘍、脱髄、細胞密度の高い腫瘍でも同様の所見を示す。"
        ),
        "incomplete_coverage": "撮像範囲が脳全体を含んでいない。範囲外は評価していない。",
        "low_signal_to_noise": "信号雑音比が低い。小さな梗塞を検出できないことがある。",
        "other_version_before": (
            "過去の結果は本モデルの別の版、または別の設定で得られたものである。変化に見えるものがその違いによる可能性がある。"
        ),
        "order_mismatch": (
            "オーダ情報と画像の識別情報が一致しない。オーダの内容は記載していない。検査の識別情報を確認すること。"
        ),
        "images_incomplete": "通知された画像のすべてが届いていない。届いていない画像は評価していない。",
        "identity_corrected": (
            "画像には本患者の訂正前の識別情報が記録されている。本結果には現在有効な識別情報を記載した。"
        ),
        "after_signing": "遅延：本結果が得られる前に、本検査の読影レポートは確定済みであった。",
        "finder_fell_back": (
            "当施設で優先されるモデルは本検査に使用できなかったため、別のモデルで代用した。両者の名称はモデルのパラメータに示す。"
        ),
        "flair_not_registered": "FLAIR像と拡散強調像との位置合わせができないため、FLAIR信号比は計測していない。",
        "flair_no_reference": (
            "鏡像位置に健常組織が十分にない、またはFLAIR像の範囲外であるため、FLAIR信号比は計測していない。"
        ),
        "flair_ratio_baseline": (
            "FLAIR信号比（領域内の平均と鏡像位置の組織の平均との比）はベースライン手法による参考値である。妥当性は検証されておらず、"
            "発症時刻を示すものではない。"
        ),
        "organ_cut_off": "脳が画像の端で切れている。範囲外は評価していない。",
        "reference_doubtful": (
            "正常脳組織との比較の信頼性が低い。体積が過小評価されている、または他の梗塞が検出されていない可能性がある。"
        ),
    }

    def found(self, facts: ReportFacts) -> str:
        """Number, total and side."""
        return (
            f"拡散強調像で高信号、ADC低下を示す拡散制限域を{_where(facts)}{facts.count}か所認める。"
            f"総体積は{volume(facts.total_ml, facts.total_range_ml)}である。"
        )

    def lesion(self, lesion: Lesion) -> str:
        """One line for one lesion."""
        adc = "" if lesion.adc_um2_s is None else f"、平均ADC {format_adc(lesion.adc_um2_s)}×10⁻⁶ mm²/s"
        kind = "、拡散強調像で高信号・ADC低下なし" if lesion.dwi_only else ""
        return f"病変{lesion.number}：{_SIDE[lesion.side]}、{volume(lesion.volume_ml, lesion.range_ml)}{adc}{kind}。"

    def finding(self, finding: Finding) -> str:
        """Nothing: the regions say it."""
        return ""

    def remaining(self, count: int, volume_ml: float) -> str:
        """The lesions that are not listed one by one."""
        return f"残り{count}病変の体積の合計は{format_ml(volume_ml)} mLである。"

    def found_impression(self, facts: ReportFacts) -> str:
        """Number, total, side and the largest when there are several."""
        largest = f"、最大{format_ml(facts.lesions[0].volume_ml)} mL" if facts.count > 1 else ""
        return (
            f"{_where(facts)}急性期梗塞を示唆する拡散制限域を認める"
            f"（{facts.count}病変、総体積{volume(facts.total_ml, facts.total_range_ml)}{largest}）。"
        )

    def bright(self, facts: ReportFacts) -> str:
        """What the subacute mode has found: number, total and side."""
        return (
            f"亜急性期モード：拡散強調像で高信号を示しADC低下を伴わない領域を{_where(facts)}{facts.count}か所認める。"
            f"総体積は{volume(facts.total_ml, None)}である。"
        )

    def nothing_bright(self) -> str:
        """That the subacute mode has found nothing."""
        return "亜急性期モード：拡散強調像で高信号を示しADC低下を伴わない領域を認めない。"

    def bright_impression(self, facts: ReportFacts) -> str:
        """What the subacute mode has found, and what it may be."""
        return (
            f"亜急性期モード：{_where(facts)}ADC低下を伴わない拡散強調像高信号域を認める"
            f"（{facts.count}病変、総体積{volume(facts.total_ml, None)}）。"
            "亜急性期梗塞またはT2シャインスルーの可能性があるが、本検査の画像のみでは区別できない。"
        )

    def nothing_found(self) -> str:
        """Findings when nothing was marked."""
        return "拡散強調像およびADCマップで、報告基準を満たす拡散制限域を認めない。"

    def nothing_found_impression(self, facts: ReportFacts) -> str:
        """Absence with its detection limit."""
        limit = "" if facts.detection_limit_ml is None else f"（検出限界{format_ml(facts.detection_limit_ml)} mL）"
        return f"急性期梗塞を示唆する拡散制限域を認めない{limit}。ただし、急性期梗塞を否定するものではない。"

    def not_assessed(self, refusal: RefusalReason | None) -> str:
        """Why the images were not analysed, and what to do."""
        if refusal is None:
            return "評価不能。AIはこの検査を解析していない。"
        reason, remedy = REASONS.get(refusal.code, ""), remedy_in(refusal, "ja")
        to_do = f" 対処：{sentence(remedy)}" if remedy else ""
        read = "" if "AI なしで読影" in remedy else " 本検査はAIを用いずに読影する必要がある。"
        return (
            f"評価不能。AIはこの検査を解析していない。理由（{refusal.code}）：{reason}"
            f"詳細（英語）：{sentence(refusal.message)}{to_do}{read}"
        )

    def not_assessed_impression(self) -> str:
        """That nothing is stated."""
        return "AIによる評価は行われていない。梗塞の有無については判断しない。"

    def detection_limit(self, volume_ml: float) -> str:
        """The volume from which infarcts stand out."""
        return f"検出限界（今回の画質で通常検出できる体積、ファントムによる推定）：{format_ml(volume_ml)} mL。"

    def reporting_threshold(self, volume_ml: float) -> str:
        """The one stated reporting threshold."""
        return f"報告閾値：{format_ml(volume_ml)} mL（これより小さいものは報告しない）。"

    def flair_ratio(self, ratio: float) -> str:
        """The signal ratio, without anything that might follow from it."""
        return f"FLAIR信号比（拡散制限域と鏡像位置の組織との比）：{ratio:.2f}（ベースライン手法による参考値）。"

    def swept(self, facts: ReportFacts) -> str:
        """What the ranges of volumes mean; nothing where there are none."""
        if not facts.swept:
            return ""
        moved = "、".join(f"{THRESHOLDS.get(name, name)}：{strict:g}〜{lax:g}" for name, strict, lax in facts.swept)
        return (
            f"括弧内の範囲は、判定閾値を厳しい設定から緩い設定まで変えたときの体積を示す（{moved}）。信頼区間ではない。"
        )

    def ai_draft(self) -> str:
        """That no physician has seen this text."""
        return "AIが作成した下書きであり、医師による確認は行われていない。"

    def model(self, model: ModelReference) -> str:
        """Which model, exactly."""
        return f"モデル：{model.name}、バージョン{model.version}、重みのダイジェスト（SHA-256）{model.digest[:12]}。"

    def contradicted(self, code: str, problems: tuple[str, ...]) -> str:
        """That generated text was thrown away."""
        return f"{code}：生成された文は計測結果と矛盾するため破棄した（{'; '.join(problems)}）。"

    def flagged(self, code: str, problems: tuple[str, ...]) -> str:
        """That the generated text that follows is doubtful."""
        return f"{code}：【注意】以下の生成文は計測結果と矛盾する（{'; '.join(problems)}）。計測結果を優先すること。"

    def generator_failed(self, code: str) -> str:
        """That no generated text could be had."""
        return f"{code}：文章生成モデルが失敗したため、計測結果から定型文を作成した。"

    def generated_by(self, model: ModelReference) -> str:
        """Who wrote the impression."""
        return (
            f"印象の作成：{model.name}、バージョン{model.version}、重みのダイジェスト（SHA-256）{model.digest[:12]}。"
        )

    def marked(self, labels: tuple[str, ...]) -> str:
        """What boxes and points were drawn around."""
        return f"画像上の表示：{'、'.join(labels)}。" if labels else ""

    def outlined(self, count: int) -> str:
        """Regions on a projection, which have no volume."""
        return f"X線画像上に{count}個の構造の輪郭を示す。輪郭は互いに重なることがある。"

    def model_reading(self) -> str:
        """Heads text a model wrote from the images."""
        return "言語モデルによる読影文（AIによる下書き・医師未確認。計測に基づく記載ではない）："

    def reading_impression(self) -> str:
        """Stands for an impression where only a model has read the images."""
        return (
            "所見欄は言語モデルによる未確認の読影文である。左右、個数、大きさ、有無は誤っている可能性があり、"
            "計測による裏付けはない。"
        )

    def not_measured(self, problems: tuple[str, ...]) -> str:
        """What the check found in text behind which there is no measurement."""
        return f"文章の点検結果（いずれも計測されていない）：{'; '.join(problems)}。"

    def not_in_language(self, written: str) -> str:
        """That the model writes other languages only."""
        return f"モデルはこの言語の文章を作成していない（対応言語：{written or 'なし'}）。"

    def read_by(self, model: ModelReference) -> str:
        """Who wrote the findings."""
        return f"文章の作成：{model.name} バージョン{model.version}、重みのダイジェスト（SHA-256）{model.digest[:12]}。"
