"""Words a generated text about a measured result may use: a closed list, for what no pattern of a lie can be complete.

Whatever is neither on the list nor among the composer's own words for the result is a statement behind which nothing was
measured: a dismissal ("artefact", 偽陽性), a size in words ("huge", 広範), an unknown spelling of a side or number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from models import claim_grammar as grammar
from models.claims import normalise
from models.composer import compose
from models.finding_names import names_of
from models.phrases_general_ja import TERMS
from models.results import StudyResult

_ENGLISH_WORDS = """
a abnormal abnormalities abnormality about above absence absent according acute acutely adc additional advised ai
all also amount amounting amounts an analysed analysis analyzed and any apparent appear appears approximately are
area areas around as assessed assessment at automated automatically available average averaging based baseline be
been before below between bilateral both brain but by calculated can cannot cc cerebral change changed chest
classifier clinical clinically cm coefficient combined compared comparison compatible comprise comprises comprising
computed conclusion concordant confirm consistent contain containing contains core correlate correlated correlation
correspond corresponding corresponds could count counted decrease decreased decreasing definite definitely
demonstrate demonstrated demonstrates demonstrating depicted derived detectable detected detection determined
diffusion diffusion-weighted disappeared discrete distinct distributed distribution does draft dwi dwi-adc each
earlier either elsewhere enlarged estimate estimated evaluation evidence evident exam examination exceeding exclude
excluded exclusion existing extent field finding findings flair focal foci focus follow following for found from
further given grown has have hemisphere hemispheres hemispheric hence highest highlighted hour however hyperintense
hyperintensity hypodense hypointense identified image images imaging impression in include including increase
increased increasing indicate indicated indicates indicating individual infarct infarcted infarction infarctions
infarcts intensity interpretation interval into involve involved involves involving is ischaemia ischaemic ischemia
ischemic it its lacking larger largest lateral lateralised lateralized keeping least left lesion lesions less lie lies
likely limit limits located location low lowest lung lungs lying map marked mean means measure measured measurement
measurements measures measuring midline ml mm model more most mr mri multifocal multiple must named nearly neither
new no non nor not noted number observed of on one only or other others otherwise over overall parenchyma patient
pattern please possible possibly present previous prior probable probably progressed progression quantified
radiograph radiologist range ranges rate ratio reader recommend recommended reduced reference region regions
remaining report reported reporting represent represents resolved resolving respectively restricted restriction
result results revealed reveals review right roughly same scan score scores sec second section see seen segmentation
segmented separate sequence series several show showing shown shows side sided sides signal since single situated
size sized smaller smallest solitary some spots stable stated stroke strokes studies study such suggest suggested
suggesting suggestive suggests sum summed suspected suspicious than that the their there therefore these they this
those threshold thresholds thus to together total totaling totalling totals two unchanged under up using value
values visualised visualized volume volumes was weighted were where which while with within without x-ray yes
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
_JAPANESE_WORDS = """
併
急性期 梗塞 脳梗塞 拡散制限 拡散強調像 拡散強調画像 拡散低下 高信号 低信号 病変 病巣 虚血 虚血性
左側 右側 両側 左右 正中部 正中 左 右 大脳半球 半球 大脳 脳実質 実質 脳 領域 域 部位
側性不明 一部 体積 容積 総体積 総容積 合計 総計 計 全体 総量 最大 最小 平均 残り 多発 多発性
散在 複数 単発 単発性 単一 孤発 約 以上 以下 未満 検出限界 検出 報告基準 報告閾値 判定閾値
閾値 範囲 認め 見られ 見られる 示唆 示 疑 疑い 可能性 所見 印象 画像 検査 信号 信号比 比 値
計測 測定 結果 側 他 その他 明らか 存在 指摘 異常信号 異常 有意 伴 呈 対応 一致 相当 矛盾
下書 医師 確認 参考 今回 個 か所 箇所 ヶ所 カ所 個所 例 各 両方 内 上 下 変化 著変 比較
前回 以前 過去 増大 増加 縮小 減少 新出 新規 新 不変 消失 増悪 改善 次 第 番 部 考える
考えられ 思われ 新たな 番目 番号 大きさ 超える 胸部 胸部単純 単純 撮影 写真 両肺 肺野 肺 診断
除外 否定 必要 要 評価 ミリリットル マップ スコア モデル データ 合致 該当 描出 表示 分布 位置
判断 推定 概算 解析 自動 算出 算定 個数 総数 総 合わせ 含 程度 最も 主 主な 両者 臨床
臨床所見 症状 照合 対比 参照 経過観察 推奨 読影 専門医 放射線科医 生じ 由来 及び 又は 並び
同側 同 本 当 対象 部分 区域 複数個 急性 脳虚血 画素 平均値 計上 強調像 強調画像 報告 サイズ
ベースライン
"""
_LATIN_WORDS = "adc dwi flair mri mr ct ml mm cm cc ai x"
_LATIN_IN_JAPANESE = frozenset(_LATIN_WORDS.split())
_HEDGES = re.compile(
    r"(?:cannot|can not|does not|not) (?:be )?(?:exclude[ds]?|rule[ds]? out)"
    r"|(?:否定|除外)(?:する(?:もの|こと)(?:で|は|では|が)?|は|も)?(?:でき)?(?:な|ず|ません)"
)
_DISMISSED = re.compile(
    r"\b(?:excluded|not (?:confirmed|significant))\b|(?:否定|除外)(?:でき|され)る|(?:考え|疑い|思い)(?:にく|難)|可能性[はがも]?低"
    r"|乏し|に過ぎな"
)
_JAPANESE_RUN = re.compile(r"[㐀-鿿々〆ヶ]+|[ァ-ヺー]+|[a-z][a-z0-9-]*")
_ENGLISH_WORD = re.compile(r"[a-z]+(?:['’]t)?")


def unknown_words(text: str, language: str, result: StudyResult) -> tuple[str, ...]:
    """Objections to what ``text`` says beyond the vocabulary of ``result``; empty where every word is known.

    Parameters
    ----------
    language : str
        ``"en"`` or ``"ja"``.
    """
    said = normalise(text)
    problems = [f"plays down the result ({each.group(0)!r})" for each in _DISMISSED.finditer(_HEDGES.sub(" ", said))]
    said = _HEDGES.sub(" ", said)
    for pattern in (grammar.ADC, grammar.VOLUME, grammar.B_VALUE):
        said = pattern.sub(" ", said)
    own = normalise(_own_words(result, language))
    strange = _strange_japanese(said, own) if language == "ja" else _strange_english(said, own)
    # Counted, not quoted: a strange word may be somebody's name, and objections stand in the draft and in the log.
    if count := len(set(strange)):
        problems.append(f"uses {count} word(s) behind which nothing was measured")
    return tuple(problems)


def _own_words(result: StudyResult, language: str) -> str:
    """What the composer says of the result, and the names in it."""
    composed = compose(result, language)
    labels = [] if result.segmentation is None else [each.label for each in result.segmentation.regions]
    names = [name for finding in result.findings for name in names_of(finding.concept.meaning)]
    terms = (result.title, result.finding.meaning, result.site.meaning)
    return "\n".join(
        (composed.findings, composed.impression, *terms, *labels, *names, *(m.label for m in result.marks))
    )


def _strange_english(said: str, own: str) -> Iterable[str]:
    known = _ENGLISH | set(_ENGLISH_WORD.findall(own))
    return (word for word in _ENGLISH_WORD.findall(said) if word not in known and not word.endswith(("'t", "’t")))


def _strange_japanese(said: str, own: str) -> Iterable[str]:
    runs = _JAPANESE_RUN.findall(own)
    terms = sorted(
        {*_JAPANESE_WORDS.split(), *TERMS.values(), *(run for run in runs if not run.isascii())}, key=len, reverse=True
    )
    latin = _LATIN_IN_JAPANESE | {run for run in runs if run.isascii()}
    for term in terms:
        said = said.replace(normalise(term), " ")
    return (run for run in _JAPANESE_RUN.findall(said) if run not in latin)
