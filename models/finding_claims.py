"""Does a text about conditions with probabilities say what was found? For results that have findings and no regions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from models import claim_grammar as grammar
from models.claims import normalise
from models.finding_names import names_of
from models.phrases_general_ja import TERMS
from models.results import Draft, Finding, Laterality, Outcome, StudyResult

_STATEMENT = re.compile(r"(?<=なし)、|(?<=疑い)、|(?<=疑われ)、|(?<=呈し)、|(?<=である)、")
_CLAUSE = re.compile(r"[,、]|\band\b")
_PREDICATE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|seen|present|noted|identified|detected|found|suggest\w*|suspect\w*|likely)\b"
    r"|認め|あり|ある|疑|示|みられ|見られ|存在|呈|伴|指摘|可能性|である"
)
_SIDES = tuple((side, pattern) for side, pattern in grammar.SIDES if side is not Laterality.MIDLINE)
_MOST = {Laterality.LEFT, Laterality.RIGHT, Laterality.BILATERAL}
_DOUBT = re.compile(
    r"\bunlikely\b|\b(?:small|low|little|remote) (?:possibility|probability|likelihood|chance)|\bless likely\b|\bdoubtful\b"
    r"|\bquestionable\b|可能性[はがも]?(?:低|乏|少|小|ほとんど|極めて)|(?:考え|疑い)(?:にく|難)|(?:疑|示唆)(?:わな|しな|され(?:な|ず))"
    r"|乏し|明らか(?:で|とは|では)(?:言え)?な|(?:明らか|明確|有意)な.{0,16}な|確認(?:でき|され)(?:な|ず|ません)|不明瞭|はっきりしな"
    r"|[(][-ー−][)]|[:(]\s*[-−]"
)
_POSSIBLE = re.compile(r"\bpossib|\bsuspect|\bsuggest|\blikely\b|可能性|疑")
_OPEN = re.compile(r"(?:cannot|can not|not) (?:be )?(?:exclude|rule)|(?:否定|除外)(?:は|も)?でき(?:な|ず|ません)")
_ANYTHING = re.compile(r"abnormal|disease|finding|patholog|acute|\bnone\b|\bclear\b|異常|所見|病変|問題|特記")
_ALL_WELL = re.compile(r"\b(?:normal|unremarkable|clear|healthy)\b|正常|健常")


def finding_problems(draft: Draft, result: StudyResult, *, complete: bool = True) -> tuple[str, ...]:
    """What ``draft`` states against the findings of ``result``, each as an English phrase; empty when it may stand.

    Checked in the impression, statement by statement: presence and absence of each condition, side, conditions that were
    not looked for, numbers, language; and that no present finding is left out, unless ``complete`` is False. What is said
    of the last in a list is said of the whole list, so a finding in a list that is denied counts as denied.
    """
    problems: dict[str, None] = {}
    text = draft.impression
    if text and bool(grammar.JAPANESE.search(text)) != (draft.language == "ja"):
        problems[f"the text is not in the language asked for ({draft.language})"] = None
    if result.outcome is Outcome.NOT_ASSESSED:
        return tuple(problems)
    named: set[str] = set()
    for problem in _statement_problems(text, result, named):
        problems[problem] = None
    for problem in (*_number_problems(text, result), *(_left_out(result, named) if complete else ())):
        problems[problem] = None
    return tuple(problems)


def _statement_problems(text: str, result: StudyResult, named: set[str]) -> Iterator[str]:
    """What statements say against the findings; the conditions they name are added to ``named``."""
    known = {finding.concept.meaning.lower(): finding for finding in result.findings}
    present = [finding.concept.meaning for finding in result.findings if finding.present]
    for statement in _statements(text):
        clauses = [clause for clause in _CLAUSE.split(statement) if clause.strip()]
        conditions = [_named_in(clause, result) for clause in clauses]
        if not any(conditions):
            if present and _denies_everything(statement):
                yield f"denies that anything was found, and {present[0]} was"
            continue
        for at, clause in enumerate(clauses):
            for meaning in conditions[at]:
                named.add(meaning.lower())
                finding = known.get(meaning.lower())
                if finding is None:
                    yield f"names {meaning}, which was not looked for"
                else:
                    yield from _against(clause, finding, shared=_shared_denial(clauses, at))


def _statements(text: str) -> Iterator[str]:
    for sentence in grammar.SENTENCE.split(normalise(text)):
        for part in grammar.CONTRAST.split(sentence):
            yield from (each.strip() for each in _STATEMENT.split(part or "") if each.strip())


def _denies_everything(statement: str) -> bool:
    if grammar.OTHER_ONLY.search(statement):
        return False
    statement = grammar.NEUTRAL.sub(" ", statement)
    denied = grammar.NEGATION.search(statement) or _DOUBT.search(statement)
    return bool(_ALL_WELL.search(statement) or (denied and _ANYTHING.search(statement)))


def _shared_denial(clauses: list[str], at: int) -> bool:
    """Whether a clause without a predicate stands in a list that is denied: "X, Y are not seen", 「X、Yを認めない」."""
    if _PREDICATE.search(clauses[at]) or _denied(clauses[at]):
        return False
    after = next((each for each in clauses[at + 1 :] if _PREDICATE.search(each) or _denied(each)), "")
    before = next((each for each in reversed(clauses[:at]) if _PREDICATE.search(each) or _denied(each)), "")
    return _denied(after) or (_denied(before) and not grammar.JAPANESE.search(before))


def _denied(clause: str) -> bool:
    return bool(grammar.NEGATION.search(clause) or _DOUBT.search(clause)) and not _OPEN.search(clause)


def _named_in(clause: str, result: StudyResult) -> list[str]:
    """Conditions a clause names, the longest name first: pleural thickening is no thickening of another kind."""
    found, rest = [], clause
    meanings = dict.fromkeys((*(finding.concept.meaning for finding in result.findings), *TERMS))
    names = sorted(
        ((name.lower(), meaning) for meaning in meanings for name in names_of(meaning)), key=lambda pair: -len(pair[0])
    )
    for name, meaning in names:
        pattern = rf"\b{re.escape(name)}" if name.isascii() else re.escape(name)
        if re.search(pattern, rest):
            found.append(meaning)
            rest = re.sub(pattern, " ", rest)
    return list(dict.fromkeys(found))


def _against(clause: str, finding: Finding, *, shared: bool) -> list[str]:
    problems = []
    denied = shared or _denied(clause)
    meaning = finding.concept.meaning
    if denied and finding.present:
        problems.append(f"denies {meaning}, which was found")
    elif not denied and not finding.present and not _OPEN.search(clause):
        said = "suspects" if _POSSIBLE.search(clause) else "asserts"
        problems.append(f"{said} {meaning}, which was not found")
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
        if each.present and each.concept.meaning.lower() not in named
    ]
