"""Does a text about conditions with probabilities say what was found? For results that have findings and no regions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from models import claim_grammar as grammar
from models.claims import normalise
from models.phrases_general_ja import TERMS
from models.results import Draft, Finding, Laterality, Outcome, StudyResult

_ALSO = {
    "Cardiomegaly": ("enlarged heart", "enlarged cardiac silhouette", "心拡大", "心陰影拡大"),
    "Pleural effusion": ("effusion", "胸水"),
    "Pulmonary edema": ("pulmonary oedema", "edema", "oedema", "肺水腫", "肺うっ血"),
    "Pneumothorax": ("気胸",),
    "Lung Opacity": ("opacity", "opacities", "陰影"),
}
_CLAUSE = re.compile(r"[。;；\n!?]|\.(?!\d)|,|、|\bbut\b|\bhowever\b|\band\b|(?<=認め)、|ただし|一方")
_SIDES = tuple((side, pattern) for side, pattern in grammar.SIDES if side is not Laterality.MIDLINE)
_MOST = {Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL}
_POSSIBLE = re.compile(r"small possibility|possibl|cannot exclude|可能性|否定できな|疑い")


def finding_problems(draft: Draft, result: StudyResult) -> tuple[str, ...]:
    """What ``draft`` states against the findings of ``result``, each as an English phrase; empty when it may stand.

    Checked in the impression, clause by clause: presence and absence of each condition, side, conditions that were not
    looked for, numbers, language; and that no present finding is left out.
    """
    problems: dict[str, None] = {}
    text = draft.impression
    if text and bool(grammar.JAPANESE.search(text)) != (draft.language == "ja"):
        problems[f"the text is not in the language asked for ({draft.language})"] = None
    if result.outcome is Outcome.NOT_ASSESSED:
        return tuple(problems)
    named: set[str] = set()
    known = {finding.concept.meaning.lower(): finding for finding in result.findings}
    for clause in _clauses(text):
        for meaning in _named_in(clause):
            named.add(meaning.lower())
            finding = known.get(meaning.lower())
            for problem in (
                [f"names {meaning}, which was not looked for"] if finding is None else _against(clause, finding)
            ):
                problems[problem] = None
    for problem in (*_number_problems(text, result), *_left_out(result, named)):
        problems[problem] = None
    return tuple(problems)


def _clauses(text: str) -> Iterator[str]:
    for clause in _CLAUSE.split(normalise(text)):
        if clause and clause.strip():
            yield clause.strip()


def _named_in(clause: str) -> list[str]:
    """Conditions a clause names, the longest name first: pleural thickening is no thickening of another kind."""
    found, rest = [], clause
    names = sorted(
        (
            (name.lower(), meaning)
            for meaning, japanese in TERMS.items()
            for name in (meaning, japanese, *_ALSO.get(meaning, ()))
        ),
        key=lambda pair: -len(pair[0]),
    )
    for name, meaning in names:
        pattern = rf"\b{re.escape(name)}" if name.isascii() else re.escape(name)
        if re.search(pattern, rest):
            found.append(meaning)
            rest = re.sub(pattern, " ", rest)
    return list(dict.fromkeys(found))


def _against(clause: str, finding: Finding) -> list[str]:
    problems = []
    denied = bool(grammar.NEGATION.search(clause)) and not _POSSIBLE.search(clause)
    meaning = finding.concept.meaning
    if denied and finding.present:
        problems.append(f"denies {meaning}, which was found")
    elif not denied and not finding.present and not _POSSIBLE.search(clause):
        problems.append(f"asserts {meaning}, which was not found")
    sides = {side for side, pattern in _SIDES if pattern.search(clause)}
    if sides and finding.laterality in _MOST and finding.laterality not in sides and not denied:
        problems.append(f"{meaning} is said to be {'/'.join(sorted(sides))}, measured is {finding.laterality}")
    elif sides and finding.laterality not in _MOST and not denied:
        problems.append(f"gives {meaning} a side, which was not measured")
    return problems


def _number_problems(text: str, result: StudyResult) -> list[str]:
    measured = [
        value for each in result.findings for value in (each.probability, each.operating_point) if value is not None
    ]
    problems = []
    for number in grammar.ANY_NUMBER.findall(normalise(text)):
        value = float(number.replace(",", "."))
        half = 0.5 * 10.0 ** -len(number.partition(".")[2])
        if not any(abs(value - scale * each) <= half + 1e-9 for each in measured for scale in (1, 100)):
            problems.append(f"number {number!r} is nothing measured")
    return problems


def _left_out(result: StudyResult, named: set[str]) -> list[str]:
    return [
        f"leaves out {each.concept.meaning}, which was found"
        for each in result.findings
        if each.present and each.concept.meaning.lower() not in named and each.concept.meaning in TERMS
    ]
