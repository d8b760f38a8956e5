"""A notification in a few sentences for people. Whose study it is stands apart, where a channel may say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from node.notify.facts import ResultFacts
from node.notify.states import Event

PRELIMINARY = "Preliminary result of an AI, not verified by a physician."
_HEADS = {
    Event.ALERT: "",
    Event.UPDATE: "UPDATE: ",
    Event.RETRACTION: "RETRACTED: ",
    Event.ESCALATION: "NOT YET ACKNOWLEDGED: ",
}
_OUTCOMES = {"found": "found", "nothing_found": "nothing found", "not_assessed": "NOT ASSESSED"}


def headline(content: Mapping[str, Any]) -> str:
    """One line: what, how much, where, how urgent."""
    facts = ResultFacts.model_validate(content["result"])
    stat = "STAT " if content["priority"] == "stat" else ""
    return f"{_HEADS[Event(content['event'])]}{stat}{facts.title or facts.model}: {_finding(facts)}"


def sentences(content: Mapping[str, Any]) -> list[str]:
    """What there is to say, one sentence a line, figures first."""
    facts = ResultFacts.model_validate(content["result"])
    lines = [headline(content)]
    if Event(content["event"]) is Event.RETRACTION:
        lines.append(
            "An earlier notification about this study does not hold any more: a later run has not confirmed it."
        )
    lines += [
        f"{each.label}: {each.volume_ml:.2f} mL{_side(each.side)}"
        for each in facts.regions
        if each.volume_ml is not None
    ]
    lines += [
        f"{each.concept.meaning}: probability {each.probability:.2f}, {'present' if each.present else 'not present'}"
        f"{_side(each.side)}"
        for each in facts.findings
    ]
    if facts.refusal_code:
        lines.append(f"Reason: {facts.refusal_code} {facts.refusal}")
    lines.append(f"{PRELIMINARY} {facts.model} {facts.model_version}".rstrip() + ".")
    return lines


def identity_lines(identity: Mapping[str, str]) -> list[str]:
    """Whose study it is, as far as the channel was given it."""
    names = {
        "patient_name": "Patient",
        "patient_id": "Patient ID",
        "birth_date": "Born",
        "accession_number": "Accession number",
        "study_uid": "Study",
    }
    return [f"{words}: {identity[key]}" for key, words in names.items() if identity.get(key)]


def _finding(facts: ResultFacts) -> str:
    words = _OUTCOMES.get(facts.outcome, facts.outcome)
    if facts.outcome == "found" and facts.total_ml is not None:
        words += f", {facts.total_ml:.2f} mL"
    sides = " and ".join(facts.sides)
    return f"{words}, {sides}" if sides else words


def _side(side: str) -> str:
    return "" if side == "unknown" else f", {side}"
