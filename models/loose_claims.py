"""Denials and additions that name no finding: "These are not seen.", "There are others elsewhere.", 「存在しない。」

Where something was measured, such a sentence can only take it back or add to it.
"""

from __future__ import annotations

import re

from models import claim_grammar as grammar
from models.claims import Polarity, Segment, read_claims
from models.comparison_claims import without_change
from models.report_facts import ReportFacts
from models.results import Laterality, Outcome, StudyResult

_MORE = re.compile(
    r"\belsewhere\b|\b(?:some|many|are|is) more\b|\bothers\b|\beach (?:hemisphere|side)\b|\bboth (?:lungs|halves)\b"
    r"|他(?:に|側|の部位)|以外に|全体(?:に|を|が)|各(?:半球|部位|側)"
)
_JAPANESE_DENIAL = re.compile(r"(?:では|で|と|以外|され|でき)な|(?:ではあり|され|でき)ません|以外")
_ABOUT = re.compile(
    r"\b(?:(?:less|fewer|more) than|at least|at most|up to|over|under) \d+ (?!ml|cc|cm|mm|m\b|l\b|\d|and|to)[a-z]"
    r"|\d+\s*(?:個|つ|病変|病巣|[かヶケカヵ]所|箇所)(?:未満|以下|以上|を超)"
)


def loose_problems(text: str, result: StudyResult) -> tuple[str, ...]:
    """What ``text`` takes back or adds without naming it, as English phrases; nothing unless something was found."""
    facts = ReportFacts.of(result)
    if facts.outcome is not Outcome.FOUND or not facts.lesions:
        return ()
    problems: dict[str, None] = {}
    for segment in read_claims(without_change(text)):
        said = grammar.NEUTRAL.sub(" ", segment.text)
        denies = bool(grammar.NEGATION.search(said) or _JAPANESE_DENIAL.search(said))
        if denies and segment.polarity is Polarity.SILENT and not segment.other_only and _may_mean_it(segment, facts):
            problems["denies something without saying what"] = None
        if not denies and _MORE.search(said) and not any(each.remaining for each in segment.counts):
            problems["says that there is more, which was not measured"] = None
        if _ABOUT.search(said):
            problems["gives a number of lesions as a bound"] = None
    return tuple(problems)


def _may_mean_it(segment: Segment, facts: ReportFacts) -> bool:
    """Whether a denial can be of what was measured: always, unless it names only sides where nothing is."""
    sides = {
        side
        for named in segment.sides
        for side in ((Laterality.LEFT, Laterality.RIGHT) if named is Laterality.BILATERAL else (named,))
    }
    return not sides or any(facts.has_side(side) or facts.side is side for side in sides)
