"""What in a text looks as if it named or numbered somebody: dates, numbers, addresses, names. English and Japanese.

Made for two gates: text that goes to a model elsewhere, and text that a model wrote. Neither needs any of this to speak of
an image, so a false alarm costs a word; the lists err on that side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models import family_names

_SEP = r"\s?[-/.]\s?"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
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
            rf"\b(?:[Dd]r|[Pp]rof|[Mm]rs?|[Mm]s|[Mm]iss|[Dd]octor|DR|PROF|MRS?|MS)\b\.?\s*[A-Z][\w'’-]*(?:[\s-]+[A-Z][\w'’.-]*)*"
            rf"|(?:\b(?:[Nn]ame|NAME|[Pp]atient(?:'s)?\s+[Nn]ame|PATIENT|[Pp]atient|[Pp]hysician|[Rr]adiologist|[Ss]igned\s+by"
            rf"|[Vv]erified\s+by|[Aa]pproved\s+by)\s*[:=]\s*|(?:患者名|氏名|名前|患者|医師|読影医|担当医)\s*[:：]\s*){_WORDS_AFTER_LABEL}"
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
        ("name", rf"(?<![ァ-ヺー]){_KANA_NAME}[\s　・]{_KANA_NAME}(?![ァ-ヺー])", 0),
    )
)
_PAIR = re.compile(r"(?<![\w^])[A-Z][A-Za-z'’-]+(?:[ ,]+[A-Z][A-Za-z'’.-]+)+")
_ONE = re.compile(r"(?<![\w^])[A-Z][A-Za-z'’-]{2,}")
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
    """A stretch of text and what it looks like: ``date``, ``number``, ``address``, ``telephone number`` or ``name``."""

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
    return word in family_names.ROMAJI or word in family_names.LATIN
