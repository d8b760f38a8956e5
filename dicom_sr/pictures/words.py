"""Fixed words of pictures and PDF reports, in English and Japanese."""

from __future__ import annotations

from dataclasses import dataclass

from models.results import Change, Laterality

BANNER = "AI DRAFT - NOT REVIEWED BY A PHYSICIAN"
"""Stands in every picture and on every page, whatever the language."""

STATUS_BANNER = "AI STATUS - NOT A REPORT"
"""Stands in its place where nothing was assessed."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words of one language. ``terms`` maps code values to short names; what is not there keeps its own meaning."""

    language: str
    notice: str
    status_notice: str
    not_assessed: str
    reason: str
    remedy: str
    sides: dict[Laterality, str]
    changes: dict[Change, str]
    terms: dict[str, str]
    number: str
    finding: str
    side: str
    change: str
    probability: str
    operating_point: str
    decision: str
    present: str
    absent: str
    total: str
    nothing_marked: str
    detection_limit: str
    shown: str
    series: str
    image: str
    slice: str
    patient: str
    patient_id: str
    birth_date: str
    sex: str
    study: str
    accession: str
    findings: str
    impression: str
    pictures: str
    measurements: str
    limits: str
    origin: str
    model: str
    inputs: str
    page: str


_ENGLISH = Words(
    language="en",
    notice=BANNER,
    status_notice=STATUS_BANNER,
    not_assessed="Not assessed by the AI: nothing is stated about presence or absence of a finding.",
    reason="Reason",
    remedy="What to do",
    sides={
        Laterality.LEFT: "left",
        Laterality.RIGHT: "right",
        Laterality.BILATERAL: "both sides",
        Laterality.MIDLINE: "midline",
        Laterality.UNKNOWN: "not determined",
    },
    changes={
        Change.NEW: "new",
        Change.LARGER: "larger",
        Change.SMALLER: "smaller",
        Change.UNCHANGED: "unchanged",
        Change.RESOLVED: "resolved",
    },
    terms={"118565006": "Volume", "113041": "Mean ADC"},
    number="No.",
    finding="Finding",
    side="Side",
    change="Change",
    probability="Probability",
    operating_point="Counts from",
    decision="Decision",
    present="present",
    absent="absent",
    total="Total",
    nothing_marked="Nothing was marked.",
    detection_limit="Detection limit",
    shown="{shown} of {total} slices with findings are shown.",
    series="Series",
    image="image",
    slice="slice",
    patient="Patient",
    patient_id="Patient ID",
    birth_date="Born",
    sex="Sex",
    study="Study",
    accession="Accession",
    findings="Findings",
    impression="Impression",
    pictures="Pictures",
    measurements="Measurements",
    limits="Limits of use",
    origin="Origin",
    model="Model",
    inputs="Images used",
    page="Page {page} of {pages}",
)

_JAPANESE = Words(
    language="ja",
    notice=f"{BANNER}（AIによる下書き・医師未確認）",
    status_notice=f"{STATUS_BANNER}（AIの状態通知であり、報告書ではありません）",
    not_assessed="AIによる評価は行われていません。所見の有無については何も述べていません。",
    reason="理由",
    remedy="対処",
    sides={
        Laterality.LEFT: "左",
        Laterality.RIGHT: "右",
        Laterality.BILATERAL: "両側",
        Laterality.MIDLINE: "正中",
        Laterality.UNKNOWN: "側性不明",
    },
    changes={
        Change.NEW: "新規",
        Change.LARGER: "増大",
        Change.SMALLER: "縮小",
        Change.UNCHANGED: "不変",
        Change.RESOLVED: "消失",
    },
    terms={"118565006": "体積", "113041": "平均ADC", "55641003": "梗塞", "52988006": "病変"},
    number="番号",
    finding="所見",
    side="側",
    change="変化",
    probability="確率",
    operating_point="判定閾値",
    decision="判定",
    present="あり",
    absent="なし",
    total="合計",
    nothing_marked="マークした領域はありません。",
    detection_limit="検出限界",
    shown="所見のある{total}スライスのうち{shown}枚を表示しています。",
    series="シリーズ",
    image="画像",
    slice="スライス",
    patient="患者",
    patient_id="患者ID",
    birth_date="生年月日",
    sex="性別",
    study="検査",
    accession="受付番号",
    findings="所見",
    impression="診断（AI案）",
    pictures="画像",
    measurements="計測値",
    limits="使用上の限界",
    origin="作成元",
    model="モデル",
    inputs="使用画像",
    page="{page} / {pages} ページ",
)


def words(language: str) -> Words:
    """Words of ``language``; English where there are none."""
    return _JAPANESE if language == "ja" else _ENGLISH
