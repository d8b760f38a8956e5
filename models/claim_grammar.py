"""Patterns that find statements in report text. They run on text that :func:`models.claims.normalise` has prepared:
NFKC (full-width digits become digits, ㎖ becomes ml, ⁻⁶ becomes -6), lower case, number words as digits."""

from __future__ import annotations

import re

from models.results import Laterality

WORDS_EN = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
ENGLISH_NUMBER = re.compile(rf"\b({'|'.join(WORDS_EN)})\b(?=\s+[a-z])")
KANJI_DIGITS = {character: value for value, character in enumerate("〇一二三四五六七八九")}
_COUNTERS_JA = r"(?:[かヶケカヵ]所|箇所|個|つ|病変|病巣)"
KANJI_NUMBER = re.compile(
    rf"([一二三四五六七八九]?十[一二三四五六七八九]?|[一二三四五六七八九])(?=\s*(?:{_COUNTERS_JA}|ミリリットル|ml))"
)

SENTENCE = re.compile(r"[。;\n!?]|\.(?!\d)")
CONTRAST = re.compile(
    r"\b(?:but|however|while|whereas|although|though|yet)\b|,? (?=with(?:out| no)\b)|, ?(?=no\b)|\band (?=no\b)"
    r"|(?:ただし|一方)、?|(?<=[るいむすただ])が、|(?<=認め)、|(?<=あり)、|(?<=られ)、|(?<=なく)、|(?<=[せめれら]ず)、|ものの、?"
)
CLAUSE = re.compile(r"[,、](?!\d{3}\b)")

NOUN = re.compile(
    r"infarct|lesion|restricted|restriction|isch[a]?emi|stroke|hyperintens|high signal|\bfoc(?:us|i)\b|abnormal"
    r"|positive|梗塞|病変|病巣|拡散制限|拡散低下|高信号|虚血|脳卒中|陽性|異常"
)
NEGATION = re.compile(
    r"\b(?:no|not|without|negative|absence|absent|none|neither|nor|free of|ruled out|excluded|resolved"
    r"|fails? to|cannot|nothing|lacks?|lacking|disappeared)\b|n't\b"
    r"|認め(?:ず|な|ません|られ(?:ず|な|ません))|[みら見]られ(?:ず|な|ません)|見(?:えな|出せな|当たらな)"
    r"|なし|なく[、て]|無し|無い|無く|ありません|[はがもの]ない|検出(?:され|でき|せ)?(?:ず|な|ません)"
    r"|指摘(?:でき|され)?(?:ず|な|ません)|存在し(?:ず|な|ません)|有意な?所見な|否定的|否定される|除外される|陰性|消失"
)
BARE_ABSENCE = re.compile(
    r"\b(?:normal|unremarkable)\b|\bnegative\b|\bnothing\b|(?:認め|[み見]られ|検出され|指摘され)(?:ず|な|ません|られ(?:ず|な|ません))"
    r"|正常(?!化)|陰性|異常(?:所見)?(?:は|を|も)?な"
)
NEUTRAL = re.compile(
    r".*\b(?:does|do|did|can|could|must) ?(?:not|n't) (?:exclude|rule out|mean)\b.*"
    r"|.*\bcannot (?:be )?(?:excluded?|ruled? out)\b.*|.*\bnothing is stated\b.*|\bnot assessed\b.*|.*\bnot analy[sz]e\b.*"
    r"|\bnot (?:determined|reviewed|reported)\b|側性不明|\botherwise (?:normal|unremarkable)\b"
    r"|.*否定するもので(?:は)?な.*|.*(?:否定|除外)(?:は|も)?でき(?:な|ず|ません).*|.*(?:有無|存在)については判断しな.*"
    r"|.*評価は行われて(?:いな|おらず).*|.*解析して(?:いな|おらず).*|報告しな|少なく(?:とも)?|評価不能"
)
DOUBLE_NEGATION = re.compile(
    r"(?:とは|わけでは)(?:言え|いえ|限ら)?な|\bnot (?:negative|absent|normal|unremarkable|without|free)\b"
)
OTHER_ONLY = re.compile(
    r"\b(?:no|without|not any) (?:other|further|additional|more)\b|\belsewhere\b|(?:他|ほか)に|その他|これ以外"
)

SIDES = (
    (
        Laterality.BILATERAL,
        re.compile(
            r"\bbilateral\w*|\bboth\b|contralateral|(?:opposite|other) (?:side|hemisphere)"
            r"|両側|両大脳|両半球|両方|左右(?!差)|対側"
        ),
    ),
    (Laterality.LEFT, re.compile(r"\bleft\b|\blt\b|(?<!右)左(?!右)|ひだり|ヒダリ")),
    (Laterality.RIGHT, re.compile(r"\bright\b|\brt\b|(?<!左)右(?!左)|みぎ|ミギ")),
    (Laterality.MIDLINE, re.compile(r"\bmidline\b|正中")),
)

SIDE_PAIR = re.compile(
    r"\b(?:left|right)(?: (?:side|hemisphere))?\s*(?:and|or|/|&)\s*(?:the )?(?:left|right)\b"
    r"|[左右]側?(?:と|・|および|及び|、)[左右]"
)
SIDE_UNKNOWN = re.compile(r"not determined|不明")

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)"
ANY_NUMBER = re.compile(NUMBER)
UNITS_ML = (
    (r"m ?l|cc|cm\^?3|(?:millilit(?:er|re)|cubic centimet(?:er|re))s?|ミリリットル|立方センチ(?:メートル)?", 1.0),
    (r"mm\^?3|[uµμ]l|(?:microlit(?:er|re)|cubic millimet(?:er|re))s?|マイクロリットル|立方ミリ(?:メートル)?", 1e-3),
    (r"cl|centilit(?:er|re)s?", 10.0),
    (r"dl|decilit(?:er|re)s?|デシリットル", 100.0),
    (r"l|lit(?:er|re)s?|リットル", 1000.0),
)
_UNIT = "|".join(f"(?P<u{k}>{pattern})" for k, (pattern, _) in enumerate(UNITS_ML))
_JOIN = r"\s*(?:-|–|~|〜|, |、|to|and|or|から|と|および|及び|または)\s*"
VOLUME = re.compile(rf"(?P<numbers>{NUMBER}(?:{_JOIN}{NUMBER})*)\s*-?(?:{_UNIT})(?![a-z0-9^])")
RANGE = re.compile(rf"^({NUMBER})\s*(?:-|–|~|〜|to|から)\s*({NUMBER})$")
_RANGE = r"({number})\s*(?:-|–|~|〜|to)\s*({number})\s*ml".replace("{number}", NUMBER)
SWEPT = re.compile(
    rf"\s*\(\s*(?:{_RANGE} over (?:the )?decision thresholds|判定閾値による(?:体積の)?範囲:?\s*{_RANGE})\s*\)"
)
"""The range of the volume before it over decision thresholds."""
FLAIR_RATIO = re.compile(rf"\bflair\s*(?:signal (?:intensity )?ratio|信号(?:強度)?比)[^\d;]*?({NUMBER})")
ADC = re.compile(
    rf"(?P<number>{NUMBER})\s*(?:(?:x|×|\*)\s*10\s*\^?\s*-\s*(?P<power>\d)\s*mm\^?2\s*/\s*s(?:ec)?"
    r"|(?P<micro>[uµμ]m\^?2\s*/\s*s(?:ec)?)|(?P<plain>mm\^?2\s*/\s*s(?:ec)?))"
)
B_VALUE = re.compile(r"\bb\s*[-=]?\s*(?:values?|値)?\s*(?:of)?\s*[=:]?\s*\d+(?:\s*s/mm\^?2)?")
LESION_NUMBER = re.compile(
    r"\b(?:lesion|infarct core|infarct)\s*(?:no\.?\s*|#\s*)?(\d+)\b(?![.,]\d|\s*-?(?:ml|cc|cm|mm))"
    r"|病変(\d+)(?![.,]?\d|\s*(?:ml|cc|cm|mm|[かヶケカヵ]所|個))"
)
COUNT = re.compile(
    r"(\d+)\s+(?:(?!(?:and|or|of|on|in|to|with)\b)[a-z-]+\s+){0,4}?"
    r"(?:infarct(?:ion)?s?|lesions?|foc(?:us|i)|areas?|regions?|abnormalit(?:y|ies)|spots?|strokes?)\b"
    rf"|(\d+)\s*{_COUNTERS_JA}"
)
ONE = re.compile(r"\b(?:single|solitary|sole)\b|単発|単一|孤発|孤立性")
MANY = re.compile(r"\b(?:multiple|several|many|numerous|multifocal|scattered|few)\b|多発|複数|散在|多数")
REMAINING = re.compile(r"\b(?:remaining|rest|others?)\b|残り|その他|他の")
LIMIT = re.compile(r"detection limit|limit of detection|検出限界")
THRESHOLD = re.compile(r"threshold|報告閾値|報告基準|閾値")
TOTAL = re.compile(
    r"\b(?:totals?|totall?ing|overall|altogether|combined|sum)\b|合計|総体積|総容積|総量|全体|総計|計(?=\d|約)"
)
LARGEST = re.compile(r"\b(?:largest|biggest|dominant|greatest)\b|最大")
SMALLEST = re.compile(r"\bsmallest\b|最小")
TOTAL_AFTER = re.compile(r"^\s*(?:in total|total|overall|altogether|combined)\b")
BELOW_BEFORE = re.compile(
    r"(?:<|≤|less than|under|below|smaller than|at most|up to|no more than)\s*(?:about |approximately )?$"
)
ABOVE_BEFORE = re.compile(
    r"(?:>|≥|(?<!no )more than|over|above|exceeding|larger than|greater than|at least)\s*(?:about |approximately )?$"
)
BELOW_AFTER = re.compile(r"^\s*(?:未満|以下|より小さ|を下回)")
ABOVE_AFTER = re.compile(r"^\s*(?:以上|超|を超え|より大き|を上回)")

UNMEASURED = (
    (re.compile(rf"{NUMBER}\s*(?:mm|cm|センチ|ミリ)(?!\^?[23]|[a-zリ])"), "a length"),
    (re.compile(rf"{NUMBER}\s*(?:%|percent|パーセント)"), "a percentage"),
    (re.compile(rf"{NUMBER}\s*-?(?:hours?|days?|weeks?|hrs?\b|時間|日|週)"), "a time"),
    (re.compile(r"ha?emorrhag|bleed|ha?ematoma|microbleed|出血|血腫"), "haemorrhage"),
    (re.compile(r"tumou?r|neoplas|metasta|腫瘍|転移"), "a tumour"),
    (re.compile(r"abscess|膿瘍|encephalitis|脳炎|demyelinat|脱髄"), "inflammation"),
    (re.compile(r"mass effect|midline shift|herniat|偏位|ヘルニア"), "mass effect"),
    (re.compile(r"occlu|stenos|thromb|emboli|aneurysm|dissection|閉塞|狭窄|血栓|塞栓|動脈瘤|解離"), "a vessel finding"),
    (re.compile(r"penumbra|mismatch|perfusion|ペナンブラ|灌流"), "perfusion"),
    (re.compile(r"\b(?:chronic|old|subacute|hyperacute)\b|陳旧|慢性|亜急性|超急性"), "an age other than acute"),
    (
        re.compile(
            r"territor|\b[mpa]ca\b|\b(?:frontal|parietal|temporal|occipital|insula\w*|thalam\w*|cerebell\w*|brainstem|pons"
            r"|pontine|medulla\w*|basal ganglia|capsul\w*|caudate|putamen|corona radiata)\b"
            r"|動脈領域|支配域|前頭|頭頂|側頭|後頭葉|島皮質|視床|小脳|脳幹|橋|延髄|基底核|内包|被殻|放線冠"
        ),
        "a site that was not determined",
    ),
)
"""Subjects no typed result of this kind measures, and what to call them."""

JAPANESE = re.compile(r"[ぁ-ゖァ-ヺ一-鿿]")
