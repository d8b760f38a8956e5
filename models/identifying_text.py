"""What in a text looks as if it named or numbered somebody: dates, numbers, addresses, names. English and Japanese.

Made for two gates: text that goes to a model elsewhere, and text that a model wrote. Neither needs any of this to speak of
an image, so a false alarm costs a word; the lists err on that side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models import family_names
from models.folding import fold

_SEP = r"\s?[-/.]\s?"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DAY = r"(?<![\d./])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?![\d/]|\.\d|\s*(?:of|[mc]m|slices|power)\b)"
_UNIT = r"m[lL]|cc|[mc]m|HU|ms|s/mm2?|mGy|kV|mA|Hz|ppm"
_PARTICLE = r"(?:(?:van|von|de|der|den|del|la|le|du|di|da|dos|al|el|bin|ten|ter|zu)\s+)*"
_WORKER = r"担当|担当者|主治医|依頼医|紹介医|報告者|記載者|読影者|診断医|術者|執刀医|執刀|技師|操作者|署名|サイン"
_KANJI_NUMBER = "[〇零元一二三四五六七八九十0-9]"
_WORDS_AFTER_LABEL = r"[^\W\d_][\w'’.・-]*(?:[\s,^・]+[^\W\d_][\w'’.・-]*){0,2}"
_HAN = r"[㐀-鿿々]"
_KANA_NAME = r"[ァ-ヺー]{2,8}"

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, flags))
    for kind, pattern, flags in (
        ("address", r"\b(?:https?|ftp|file|data)://?\S+|\bwww\.\S+|[\w.+-]+@[\w-]+\.[\w.]+", re.I),
        ("telephone number", r"(?<!\d)(?:\+\d{1,3}[\s-]?)?(?:\(?0\d{1,4}\)?[\s-]\d{1,4}[\s-]\d{3,4})(?!\d)", 0),
        ("date", rf"(?<!\d)(?:19|20)\d\d{_SEP}\d{{1,2}}{_SEP}\d{{1,2}}(?!\d)", 0),
        ("date", rf"(?<!\d)\d{{1,2}}{_SEP}\d{{1,2}}{_SEP}(?:19|20)\d\d(?!\d)", 0),
        # One separator throughout: 11.9-14.2 mL is a range.
        ("date", r"(?<!\d)\d{1,2}\s?([-/.])\s?\d{1,2}\s?\1\s?'?\d\d(?!\d)", 0),
        (
            "date",
            rf"(?<!\d)\d{{1,2}}(?:st|nd|rd|th)?[\s\-./]*(?:of\s+)?{_MONTH}(?:[\s,\-./]*(?:(?:19|20)\d\d|'\d\d))?\b",
            re.I,
        ),
        ("date", rf"\b{_MONTH}[\s,./-]*(?:of\s+)?(?:19|20)\d\d(?!\d)", re.I),
        ("date", rf"(?<![\d.])(?:19|20)\d\d{_SEP}(?:0?[1-9]|1[0-2])(?!\d)", 0),
        (
            "date",
            r"\b(?:in|since|from|of|until|before|after|born|dated|year|during)\s+(?:early\s+|late\s+|about\s+)?(?:19|20)\d\d"
            rf"(?![\d.,]*\d|\s?(?:{_UNIT})(?![a-z]))",
            re.I,
        ),
        # A day without a year counts only beside a word of examinations: 3/5 may be a grade or a share.
        (
            "date",
            rf"\b(?:on|since|from|dated|compared\s+(?:with|to)|CT|MRI?|XR|study|scan|films?|radiographs?|exam\w*)\s+(?:of\s+|from\s+|on\s+)?\(?{_DAY}"
            rf"|(?:前回|前|検査|撮影|手術|CT|MRI?)\s?(?:は|の|で|を|に)?\s?\(?{_DAY}|{_DAY}\s?(?:の|に|より|から|と比|撮影|施行|付)",
            re.I,
        ),
        ("date", rf"\b{_MONTH}\s*\d{{1,2}}(?:st|nd|rd|th)?(?:\s*,?\s*(?:19|20)\d\d)?(?![\d.])", re.I),
        ("date", rf"(?:明治|大正|昭和|平成|令和|\d{{2,4}}|[〇一二三四五六七八九]{{4}})\s*{_KANJI_NUMBER}{{0,3}}年", 0),
        ("date", rf"{_KANJI_NUMBER}{{1,3}}\s*月\s*{_KANJI_NUMBER}{{1,3}}\s*日", 0),
        ("date", rf"(?<![A-Za-z0-9])[MTSHR]\s?\d{{1,2}}{_SEP}\d{{1,2}}{_SEP}\d{{1,2}}(?!\d)", 0),
        ("number", r"(?<![\w.])[A-Za-z]{0,4}[-_#]?\d{2,}(?:[-_ ]\d{2,})+(?![\w%]|\s?(?:m[lL]|cc|[mc]m|HU)\b)", 0),
        ("number", r"(?<![\w.,])(?=[A-Za-z0-9-]*\d{4})[A-Za-z0-9][A-Za-z0-9-]{4,}(?!\w)", 0),
        ("number", r"(?<!\d)\d+(?:\.\d+){4,}(?!\d)", 0),
        (
            "number",
            r"\b(?:MRN|ID|patient\s+(?:id|no|number)|accession(?:\s+(?:no|number))?|chart\s+no)\b\.?\s*[:#=]?\s*(?=[\w./-]*\d)[A-Za-z0-9._/-]+"
            r"|(?:患者番号|患者ID|受付番号|カルテ番号|検査番号|ID)\s*[:：]?\s*[A-Za-z0-9-]*\d[A-Za-z0-9-]*",
            re.I,
        ),
        ("name", r"[^\W\d_]{1,20}\^[^\W\d_]{1,20}(?:\^[\w.]*)*", 0),
        (
            "name",
            rf"\b(?:[Dd]r|[Pp]rof|[Mm]rs?|[Mm]s|[Mm]iss|[Dd]octor|DR|PROF|MRS?|MS)\b\.?\s*{_PARTICLE}[A-Z][\w'’-]*(?:[\s-]+[A-Z][\w'’.-]*)*"
            rf"|(?:\b(?:[Nn]ame|NAME|[Pp]atient(?:'s)?\s+[Nn]ame|PATIENT|[Pp]atient|[Pp]hysician|[Rr]adiologist|[Ss]igned\s+by"
            rf"|[Vv]erified\s+by|[Aa]pproved\s+by)\s*[:=]\s*|(?:患者名|氏名|名前|患者|医師|読影医|担当医|{_WORKER})\s*[:：]\s*){_WORDS_AFTER_LABEL}"
            rf"|\b(?:[Nn]amed|[Cc]alled|[Ss]igned\s+by|[Vv]erified\s+by|[Aa]pproved\s+by|[Rr]eviewed\s+by|[Pp]atient)\s+"
            r"[A-Z][\w'’-]+(?:\s+[A-Z][\w'’.-]+)*",
            0,
        ),
        (
            "name",
            rf"(?:{_HAN}{{1,4}}[\s　]?{_HAN}{{0,4}}|{_KANA_NAME}[\s・]?(?:{_KANA_NAME})?)(?:様|さん|氏(?!名)|殿|先生|医師)",
            0,
        ),
        (
            "name",
            rf"(?:{'|'.join(sorted(family_names.KANJI, key=len, reverse=True))})[\s　・]?(?:{_HAN}|[ぁ-ん]){{1,3}}",
            0,
        ),
        (
            "name",
            r"\b(?:[Rr]eported|[Rr]ead|[Dd]ictated|[Tt]yped|[Tt]ranscribed|[Ss]igned|[Ss]een|[Rr]eferred|[Rr]eviewed|[Ss]ent)"
            rf"(?:\s+by|\s*:)\s*(?:[Tt]he\s+)?{_PARTICLE}(?:[A-Z]\.\s?)*[A-Z][^\W\d_]{{2,}}(?:\s+[A-Z][\w'’.-]+)*",
            0,
        ),
        ("name", r"\b(?!McBurney|McConnell)(?:O['’]|Mc|Mac)[A-Z][a-z]+", 0),
        # Given names by their usual last characters: 因子 and 分子 are none.
        (
            "name",
            rf"{_HAN}{{1,3}}[\s　・]?{_HAN}?[花洋恵裕幸和久京智由美真理佳陽優明文秀英春夏秋冬雪千信節静貞澄敏淑弘葉桜桃愛彩]子",
            0,
        ),
        ("name", rf"{_HAN}{{1,3}}[\s　・]?{_HAN}?[太一次二三四五健慎進賢俊孝]郎", 0),
        ("name", rf"(?:{'|'.join(each for each in sorted(family_names.KANJI) if len(each) > 2)})", 0),
        ("name", r"(?<![ぁ-んァ-ヺー㐀-鿿])[ぁ-ん]{2,5}[ \u3000][ぁ-ん]{2,5}(?![ぁ-んァ-ヺー㐀-鿿])", 0),
        # Words of a script in which none of our reports is written.
        ("name", r"[가-힣]{2,}|[Ѐ-ӿ]{2,}|[\u0590-\u06ff]{2,}|[\u0e00-\u0e7f]{2,}", 0),
        (
            "place",
            r"\b(?:[A-Z][\w'’.]*\s+){1,4}(?:Hospital|Clinic|University|Infirmary|Medical\s+Cent(?:er|re))\b"
            r"|\b(?:University|Hospital)\s+of\s+[A-Z]\w+|\b(?:[Ww]ard|[Bb]ed|[Rr]oom)\s+(?:[Nn]o\.?\s*)?[A-Z]?-?\d+[A-Z]?\b"
            rf"|(?!大学病院|総合病院|専門病院|近隣|最寄|紹介元|他の){_HAN}{{2,12}}(?:病院|医院|大学|医療センター|診療所)"
            rf"|(?:{_HAN}|[ァ-ヺー]){{2,12}}クリニック|\d+号室|\d+階?(?:[東西南北])?病棟"
            rf"|{_HAN}{{2,3}}[都道府県]{_HAN}{{1,6}}[市区町村郡]",
            0,
        ),
        ("name", rf"(?<![ァ-ヺー]){_KANA_NAME}[\s　・]{_KANA_NAME}(?![ァ-ヺー])", 0),
    )
)
_PAIR = re.compile(r"(?<![\w^])[A-Z][A-Za-z'’-]+(?:[ ,]+[A-Z][A-Za-z'’.-]+)+")
_ONE = re.compile(r"(?<![\w^])[A-ZÀ-Þ](?:[^\W\d_]|['’-]){2,}")
_COMMON_WORDS = """
acute infarct infarction left right bilateral brain findings impression conclusion comparison technique no
there the a an is are of and in on with without ct mri mr adc dwi flair gre swi tof mra cta xr cxr pa ap pet
us chest head abdomen pelvis neck spine restricted diffusion lesion lesions volume total mild moderate severe
small large normal abnormal not this these it ai draft measured model question answer images image report
impressions yes unclear pleural effusion cardiomegaly atelectasis pneumothorax pneumonia edema oedema
consolidation nodule mass fracture emphysema fibrosis lung heart aorta liver spleen kidney pancreas bone
ventricle ventricles haemorrhage hemorrhage one two three other some possible likely probable definite
definitely patient please reason history prior previous study stat urgent possibility sign apparent
coefficient infiltration opacity hernia thickening enlarged cardiomediastinum sinus suspected stroke rule out
show shows shown evidence consistent compatible recommend recommended follow up what where which how does do
can could would should has have was were middle cerebral artery territory
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Identifier:
    """A stretch of text and what it looks like: ``date``, ``number``, ``address``, ``telephone number``, ``place``, ``name``."""

    kind: str
    start: int
    end: int


def identifiers(text: str) -> list[Identifier]:
    """Every stretch of ``text`` that looks as if it named somebody; may overlap.

    Parameters
    ----------
    text : str
        As :func:`models.folding.plain` leaves it.
    """
    found = [Identifier(kind, m.start(), m.end()) for kind, pattern in _KINDS for m in pattern.finditer(text)]
    for match in _PAIR.finditer(text):
        words = [re.sub(r"['’.-]", "", word).lower() for word in re.split(r"[ ,]+", match.group())]
        strange = [word for word in words if word not in _COMMON and len(word) > 1]
        if len(strange) >= 2 or any(_is_family_name(word) for word in strange):
            found.append(Identifier("name", match.start(), match.end()))
    for match in _ONE.finditer(text):
        if _is_family_name(match.group().lower().strip("'’-")):
            found.append(Identifier("name", match.start(), match.end()))
    return found


def without_identifiers(text: str, mark: str) -> str:
    """``text`` with every :func:`identifiers` replaced by ``mark``, once where they overlap or touch."""
    spans: list[tuple[int, int]] = []
    for each in sorted(identifiers(text), key=lambda found: found.start):
        if spans and each.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], each.end))
        else:
            spans.append((each.start, each.end))
    for start, end in reversed(spans):
        text = f"{text[:start]}{mark}{text[end:]}"
    return text


def _is_family_name(word: str) -> bool:
    word = fold(word)
    return word in family_names.ROMAJI or word in family_names.LATIN
