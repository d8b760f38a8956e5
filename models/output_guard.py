"""The last look at text that a model wrote, whichever model: what must never stand in a draft.

A draft speaks of these images. It needs no name, no number of anybody, no date, no address; it can never say that somebody
has read or approved it; and whatever was told to the model inside an order, a report or the picture was data: a text that
repeats such an instruction, or holds a call of a tool, shows that the model has obeyed, and is thrown away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from models.folding import fold, plain
from models.identifying_text import identifiers
from models.remote_errors import TextWithheld

_DOCTOR = r"(?:physician|doctor|radiologist|attending|consultant|expert|specialist|human|colleague)"
_ISHI = r"(?:専門医|放射線科医|読影医|医師|技師|担当医|主治医|指導医)"
# Matched on folded text: katakana stands there as hiragana.
_REVIEWED = re.compile(
    r"\b(?:verif(?:ied|y)|validated|approved?|authenticated|(?:counter)?signed(?! by the algorithm)|attested|co-?signed)\b"
    r"|\bsign(?:ed)?[ -]?off\b|(?<!not )\b(?:reviewed|checked|read) by\b"
    r"|\bconfirmed by (?:an? |the |our )?(?:\w+ )?(?:physician|doctor|radiolog|attending|dr\b|reader|expert|chief|specialist)"
    r"|\bfinal (?:report|read|diagnosis|result)\b|\bnot a draft\b|\bfinali[sz]ed?\b|\b(?:is|now) (?:final|definitive)\b"
    r"|\b(?:report|text|draft|study|interpretation|this|it) (?:has|have|was|were|is)(?: been)?(?: \w+)?"
    r" (?:reviewed|checked|released)\b"
    r"|\breviewed and\b|\bdictated and read\b|\bauthori[sz]ed (?:for|by)\b|\bquality[- ]assured\b|\bdouble[- ]checked\b"
    r"|\bno (?:(?:further|additional|human|physician) )*(?:review|verification|confirmation|oversight)\b"
    r"|\bno need to (?:read|review|check)\b"
    r"|\b(?:review|verification|confirmation|oversight)(?: by an? \w+)? is (?:not |un)(?:needed|necessary|required)\b"
    r"|\bnot (?:ai|machine|computer)[ -](?:generated|written|made)\b|\bhuman[ -](?:verified|reviewed|checked|written)\b"
    rf"|\b(?:written|dictated|reported|interpreted|prepared) by (?:an? |the )?(?:\w+ )?{_DOCTOR}"
    rf"|\b{_DOCTOR}s? (?:has |have )?(?:agree[sd]?|concur(?:s|red)|confirms|confirmed|reviewed|checked|approved)\b"
    r"|\b(?:physician|doctor|radiologist)[ -](?:reviewed|confirmed|approved)\b"
    r"|\b(?:status|completion|verification)[ _-]?(?:flag)?\s*[:=]"
    r"|(?:確認|承認|検証|認証|読影|校閲|検像|れびゅー|ちぇっく|さいん)(?:済|ずみ|を得|(?:が|は)?完了)|(?:承認|認証|校閲)さ|署名"
    r"|確定(?:診断|報告|版|済|で)|診断確定|最終(?:報告|診断|版)|下書きではな|(?:ai|機械)では?な"
    rf"|{_ISHI}(?:が|による|の)(?:確認|承認|読影|作成|校閲)(?!が必要|を要|を推奨|は行われていな|はされていな)"
    r"|(?:確認|読影|承認|検証|れびゅー)(?:は|が|を)?(?:不要|必要(?:は|が)?な|要さな|要しな)"
)
_INSTRUCTION = re.compile(
    r"\b(?:ignor|disregard|forget|overrid)\w* (?:\w+ ){0,4}?(?:instruction|prompt|rule|polic|above|previous|measurement)"
    r"|\b(?:system|developer|assistant|user) ?(?:prompt|message|role)?\s*[:>]|\byou (?:are|must|will) now\b|\bas an ai\b|<\|"
    r"|\[/?inst\]|<</?sys>>|###|```|\bjailbreak\b|\bdeveloper mode\b|\bdo not (?:mention|report|tell|show)\b|\bbase64\b"
    r"|\bas (?:instructed|told|ordered|directed)\b|"
    r"\b(?:per|following|according to) (?:the |this )?(?:instructions?|note|command)\b"
    r"|\b(?:i was|we were) (?:told|asked|instructed)\b"
    r"|\b(?:order|note|picture|image|report|text) (?:says|asks|tells|instructs|requests)\b"
    r"|\b(?:is|are|was|were) (?:hereby )?(?:omitted|suppressed|withheld|left out|not (?:reported|mentioned))\b"
    r"|指示(?:を|に|は)?.{0,6}(?:無視|従)|(?:指示|依頼)(?:どおり|通り|の(?:とおり|通り)|に基づ|により)|命令|ぷろんぷと|しすてむ:"
    r"|報告(?:しないで|するな)|(?:記載|言及)(?:しな|するな|しません)|書かないで|隠(?:して|せ)|(?:以上|以前|上記)の.{0,8}(?:無視|忘れ)"
)
_TOOL = re.compile(
    r"[<‹〈][/\s]*[a-z_][\w ]*(?:\(|[^<>‹›]*[>›〉])"
    r"|\b(?:curl|wget|http|exec|eval|import|select|drop table|sudo)\b\s*[(:/ ]"
)
_SHORTEST_ECHO = 48


def faults(text: str, untrusted: Sequence[str] = ()) -> tuple[str, ...]:
    """What is wrong with a generated text, in words that repeat nothing of it; empty where it may stand.

    Parameters
    ----------
    text : str
    untrusted : sequence of str
        Free text the model was given as data. A long stretch of it, word for word, is not an answer.
    """
    if not text.strip():
        return ()
    said, folded = plain(text), fold(text)
    found = [f"holds a {each.kind}" for each in identifiers(said)]
    found += [
        words
        for words, pattern in (
            ("claims that somebody has checked it", _REVIEWED),
            ("repeats an instruction", _INSTRUCTION),
            ("holds a call of a tool", _TOOL),
        )
        if pattern.search(folded)
    ]
    if any(echoed(folded, fold(each)) for each in untrusted):
        found.append("repeats what it was given")
    return tuple(dict.fromkeys(found))


def guard(text: str, untrusted: Sequence[str] = ()) -> None:
    """Refuse a text with :func:`faults`.

    Raises
    ------
    TextWithheld
    """
    if found := faults(text, untrusted):
        raise TextWithheld(f"the generated text {' and '.join(found)}", faults=list(found))


def echoed(text: str, source: str) -> bool:
    """Whether 48 characters in a row of ``source`` stand in ``text``; half as many where they are not Latin. Both folded."""
    text, source = (re.sub(r"\s+", " ", each).strip() for each in (text, source))
    length = _SHORTEST_ECHO if source.isascii() else _SHORTEST_ECHO // 2
    if len(source) < length:
        return len(source) >= length // 2 and source in text
    return any(source[at : at + length] in text for at in range(len(source) - length + 1))
