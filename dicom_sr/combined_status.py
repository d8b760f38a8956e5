"""One status for all that ran on a study: what each analysis came to, in one object instead of one for each.

It stands in the place of the single status objects wherever more than one analysis answers a destination. What was found
is said first and is never hidden by what was not: an analysis that found something is named as such, and its own result
says what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_sr import codes
from dicom_sr.composite import Place
from dicom_sr.rendering import COMBINED, RenderContext, RenderedObject
from dicom_sr.secondary_capture import SUMMARY, render_notice
from dicom_sr.source_header import SourceHeader
from dicom_sr.status_report import ROLE, UNSTATED, document, model_line, reason_lines, role_of
from dicom_sr.versions import name_predecessors
from models.results import Draft, Outcome, Replaced, StudyResult


@dataclass(frozen=True, slots=True)
class Account:
    """What became of one analysis of a study.

    Attributes
    ----------
    result : StudyResult
        Title, model, outcome and, where nothing was assessed, the reason. Its drafts speak for it unless it found something:
        then its own objects do.
    is_open : bool
        Not ended yet; its outcome says nothing.
    """

    result: StudyResult
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class _Words:
    headline: str
    counts: str
    verdicts: dict[str, str]


_FOUND, _NOTHING, _NOT, _OPEN = "found", "nothing", "not assessed", "open"
_ORDER = (_FOUND, _NOT, _NOTHING, _OPEN)
"""In the order in which a reader has to know them."""

WORDS = {
    "en": _Words(
        "AI STATUS - NOT A REPORT. What became of each AI analysis of this study; not reviewed by a physician.",
        "{0} found something, {1} not assessed, {2} found nothing, {3} not ended yet.",
        {
            _FOUND: "FOUND SOMETHING. See the result of this analysis.",
            _NOTHING: "nothing found.",
            _NOT: "not assessed. Nothing is stated about presence or absence of a finding.",
            _OPEN: "not ended yet. A later status will take the place of this one.",
        },
    ),
    "ja": _Words(
        "AI STATUS - NOT A REPORT（AIの状態通知であり、報告書ではありません）。本検査に対する各AI解析の結果（医師未確認）。",
        "所見あり{0}件、評価なし{1}件、検出なし{2}件、未終了{3}件。",
        {
            _FOUND: "所見あり。この解析の結果を参照してください。",
            _NOTHING: "検出なし。",
            _NOT: "評価なし。所見の有無については何も述べていません。",
            _OPEN: "未終了。後続の状態通知がこの通知に置き換わります。",
        },
    ),
}


def render_combined(
    accounts: Sequence[Account],
    languages: Sequence[str],
    header: SourceHeader,
    context: RenderContext,
    replaces: Replaced | None = None,
) -> list[RenderedObject]:
    """The combined status of a study: a document in each language, and a picture where the profile sends pictures.

    Parameters
    ----------
    accounts : sequence of Account
        Two or more, in any order; each with a draft in each language where it has ended and found nothing or was not
        assessed.
    replaces : Replaced or None
        The status before, where this is a later version; its objects are ``context.earlier``.
    """
    ordered = sorted(accounts, key=lambda each: _ORDER.index(_state(each)))
    made = [
        RenderedObject(
            role_of(position, language, role=COMBINED), _in_words(ordered, language, header, context, position)
        )
        for position, language in enumerate(languages)
    ]
    if {SUMMARY, "secondary_capture"} & set(context.profile.objects):
        lines = [line for n, each in enumerate(ordered, start=1) for line in _lines(n, each, languages[0])]
        picture = render_notice(
            [each.result.model for each in ordered],
            languages[0],
            description(ordered),
            WORDS[languages[0]].counts.format(*_counts(ordered)),
            lines,
            header,
            context,
        )
        made.append(RenderedObject(SUMMARY, picture))
    name_predecessors(made, replaces, context.earlier)
    return made


def description(accounts: Sequence[Account]) -> str:
    """Series Description: how many analyses came to what, what was found first; at most 64 characters."""
    found, not_assessed, nothing, still_open = _counts(accounts)
    parts = [(found, "found"), (not_assessed, "not assessed"), (nothing, "nothing found"), (still_open, "open")]
    return "AI status: " + ", ".join(f"{count} {words}" for count, words in parts if count)


def conclusion(accounts: Sequence[Account]) -> codes.Code:
    """What came of them all, in code (CID 6047). One that has not ended has not succeeded."""
    found, not_assessed, nothing, still_open = _counts(accounts)
    failed = not_assessed + still_open
    if found:
        return codes.SOME_RAN_WITH_FINDINGS if failed else codes.RAN_WITH_FINDINGS
    if nothing:
        return codes.SOME_RAN_WITHOUT_FINDINGS if failed else codes.RAN_WITHOUT_FINDINGS
    return codes.DID_NOT_RUN


def verdict(account: Account, language: str) -> str:
    """What one analysis came to, in words that begin with its title."""
    return f"{account.result.title}: {WORDS[language].verdicts[_state(account)]}"


def draft_of(account: Account, language: str) -> Draft | None:
    """The text that speaks for an analysis here; None where its own result does, or there is none."""
    if _state(account) not in (_NOTHING, _NOT):
        return None
    return next((each for each in account.result.drafts if each.language == language), None)


def _in_words(
    accounts: Sequence[Account], language: str, header: SourceHeader, context: RenderContext, position: int
) -> Dataset:
    words = WORDS[language]
    counts = words.counts.format(*_counts(accounts))
    findings = [
        words.headline,
        counts,
        *(line for n, each in enumerate(accounts, start=1) for line in _lines(n, each, language)),
    ]
    concluded = [words.headline, counts]
    for n, each in enumerate(accounts, start=1):
        draft = draft_of(each, language)
        concluded += [f"{n}. {verdict(each, language)}", *([draft.impression] if draft is not None else [])]
    return document(
        [each.result.model for each in accounts],
        header,
        context,
        role=role_of(position, language, role=COMBINED),
        place=Place(ROLE, 3, position + 1, description(accounts)),
        language=language,
        # A sentence that several analyses share is said once for all of them.
        findings=list(dict.fromkeys(findings)),
        impression=list(dict.fromkeys(concluded)),
        conclusion=conclusion(accounts),
    )


def _lines(number: int, account: Account, language: str) -> list[str]:
    """What is said of one analysis, a sentence or two a line."""
    draft, state = draft_of(account, language), _state(account)
    # Two rules may look for the same with the same model: the number tells them apart.
    lines = [f"{number}. {verdict(account, language)}"]
    if draft is not None:
        lines += [draft.findings, *(draft.notes if state == _NOTHING else ())]
    if state == _NOT:
        lines += reason_lines(account.result.refusal or UNSTATED, draft.findings if draft is not None else "", language)
    return [*(part for line in lines for part in line.splitlines() if part.strip()), model_line(account.result)]


def _state(account: Account) -> str:
    if account.is_open:
        return _OPEN
    return {Outcome.FOUND: _FOUND, Outcome.NOTHING_FOUND: _NOTHING}.get(account.result.outcome, _NOT)


def _counts(accounts: Sequence[Account]) -> tuple[int, ...]:
    states = [_state(each) for each in accounts]
    return tuple(states.count(state) for state in _ORDER)
