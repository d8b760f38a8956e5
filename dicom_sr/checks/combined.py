"""A combined status says of every analysis what it came to, and of none what it did not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_sr.checks.characters import carried
from dicom_sr.checks.subject import Subject
from dicom_sr.combined_status import Account, verdict
from models.results import Outcome

_FOUND, _SOME_FOUND, _NONE_FOUND, _SOME_NONE_FOUND, _NONE_RAN = "111242", "111244", "111241", "111243", "111245"


def combined_problems(role: str, texts: Sequence[str], language: str, subject: Subject) -> Iterator[str]:
    """What is wrong with the words of a combined status.

    Parameters
    ----------
    texts : sequence of str
        Findings and impression.
    language : str
        That the document says it is written in.
    """
    if len(texts) != 2 or len(subject.accounts) < 2:
        yield f"{role}: not a status of several analyses"
        return
    findings, impression = (_letters(text) for text in texts)
    for number, account in enumerate(subject.accounts, start=1):
        said = _letters(carried(verdict(account, language), subject.profile))
        if said not in findings or said not in impression:
            yield f"{role}: it does not say what analysis {number} came to"
        result = account.result
        if result.model.digest[:12] not in findings or _letters(result.model.version) not in findings:
            yield f"{role}: it does not name the model of analysis {number}"
        if account.is_open or result.outcome is Outcome.FOUND:
            continue
        if result.refusal is not None and result.refusal.code not in findings:
            yield f"{role}: it does not give the reason code of analysis {number}"
        draft = next((each for each in result.drafts if each.language == language), None)
        if draft is None or _letters(carried(draft.impression, subject.profile)) not in impression:
            yield f"{role}: it does not have the words of analysis {number} in language {language}"


def expected_conclusion(accounts: Sequence[Account]) -> str:
    """Code value (CID 6047) of what all of them came to."""
    outcomes = [None if each.is_open else each.result.outcome for each in accounts]
    all_ran = not {None, Outcome.NOT_ASSESSED} & set(outcomes)
    if Outcome.FOUND in outcomes:
        return _FOUND if all_ran else _SOME_FOUND
    if Outcome.NOTHING_FOUND in outcomes:
        return _NONE_FOUND if all_ran else _SOME_NONE_FOUND
    return _NONE_RAN


def _letters(text: str) -> str:
    """Without white space and control characters, which line endings and viewers change."""
    return "".join(c for c in text if c.isprintable() and not c.isspace())
