"""What a text says about change over time, held against the comparison that was really made.

A model that sees one study cannot know what an earlier one showed. Where nothing was compared every such word is an
invention; where something was, the direction must be the measured one.
"""

from __future__ import annotations

import re

from models.claims import normalise
from models.results import Change, Comparison

_CHANGES: tuple[tuple[Change, re.Pattern[str]], ...] = (
    (
        Change.UNCHANGED,
        re.compile(
            r"\b(?:un|not )changed?\b|\bno (?:\w+ )?(?:change|progression|interval change)\b|\bstable\b|\bstationary\b"
            r"|著変な|変化(?:な|は?認めな|を認めな|は?みられな)|不変|同様|横ばい|著明な変化な"
        ),
    ),
    (
        Change.LARGER,
        re.compile(
            r"\bincreas(?:e[sd]?|ing)\b|\bgrow(?:n|s|th|ing)\b|\bgrew\b|\benlarg(?:ed|ing|ement)\b|\bprogress(?:ed|ion|ing|ive)\b"
            r"|\bworse(?:n\w*)?\b|\bdoubl(?:ed|ing)\b|\btripl(?:ed|ing)\b|\bexpand(?:ed|ing)\b"
            r"|\b(?:larger|bigger|more extensive|greater)\b(?! than (?:about |approximately )?\d)"
            r"|増大|増加|拡大|増悪|進行|倍増|広がって"
        ),
    ),
    (
        Change.SMALLER,
        re.compile(
            r"\bdecreas(?:e[sd]?|ing)\b|\bshr(?:ank|unk|inking)\b|\bregress(?:ed|ion|ing)\b|\bimprov(?:ed|ing|ement)\b|\bhalved\b"
            r"|\bresolving\b|\b(?:smaller|less extensive)\b(?! than (?:about |approximately )?\d)|縮小|減少|改善|軽快|退縮|半減"
        ),
    ),
    (
        Change.RESOLVED,
        re.compile(r"\b(?:has|have|had|is|was|now) (?:\w+ )?(?:resolved|disappeared|vanished)\b|消失|消退"),
    ),
    (
        Change.NEW,
        re.compile(
            r"\bnew(?:ly)?\b(?! zealand)|\bnot (?:previously|seen before)\b|\bde novo\b|新規|新たな|新出|前回はな|初発"
        ),
    ),
)
_EARLIER = re.compile(
    r"\b(?:prior|previous(?:ly)?|earlier|former(?:ly)?|before|last|old)"
    r" (?:study|studies|scan|exam\w*|image\w*|mri?|ct|report\w*|seen)\b"
    r"|\b(?:compared|comparison) (?:with|to)\b|\bin comparison\b|\bsince (?:the|yesterday|last|admission|prior|previous)\b"
    r"|\binterval\b"
    r"|\bthan before\b|\bas before\b|\bformerly\b|\byesterday\b|前回|以前|既往の画像|過去の(?:検査|画像)|比較して|比べ"
)
_LIKENESS = re.compile(
    r"\bsize of an? \w+|\b\w+[- ]sized\b|\bas (?:large|big|small) as\b"
    r"|(?:拳|卵|鶏卵|親指|母指頭|小指頭|米粒|豆|手拳|クルミ|胡桃)大"
)
_SIZE_AS_A_NAME = re.compile(
    r"\benlarged (?:heart|cardi\w+|mediastin\w+)|\benlargement of the (?:heart|cardi\w+)"
    r"|心(?:陰影|臓)?(?:の)?拡大|縦隔(?:陰影)?(?:の)?拡大"
)
"""Conditions whose name holds a word of change."""
_HEDGED_NEGATION = re.compile(
    r"\b(?:hardly|barely|scarcely|virtually no|almost no|practically no)\b|ほとんど.{0,12}(?:な|せず)|ほぼな"
)


def without_change(text: str) -> str:
    """``text``, normalised, without words that deny a change: "no progression" denies no finding."""
    pattern = next(each for change, each in _CHANGES if change is Change.UNCHANGED)
    return pattern.sub(" ", normalise(text))


def comparison_problems(text: str, comparison: Comparison | None) -> tuple[str, ...]:
    """What a text says about change and size by likeness that was not measured, as English phrases.

    Parameters
    ----------
    text : str
        Generated text, findings or impression.
    comparison : Comparison or None
        What was compared with; None where nothing was.
    """
    said = _SIZE_AS_A_NAME.sub(" ", normalise(text))
    problems = []
    claimed = [change for change, pattern in _CHANGES if pattern.search(said)]
    if Change.UNCHANGED in claimed:
        # "No progression" names what did not happen.
        claimed = [Change.UNCHANGED]
    if comparison is None:
        if claimed or _EARLIER.search(said):
            problems.append("speaks of change since an earlier study, but nothing was compared")
    else:
        known = {comparison.change, *(each.change for each in comparison.lesions)}
        problems += [f"says {change}, measured is {comparison.change}" for change in claimed if change not in known]
    if _LIKENESS.search(said):
        problems.append("gives a size by likeness, which was not measured")
    if _HEDGED_NEGATION.search(said):
        problems.append("half denies the finding")
    return tuple(problems)
