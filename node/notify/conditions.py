"""Which rules of who is told hold for a result, and why (not). Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from node.notify.facts import FindingFacts, ResultFacts
from node.settings import CANARY, NotifySection, NotifyWhen
from node.settings.prompts import SEPARATOR

_Check = tuple[bool, str]


@dataclass(frozen=True, slots=True)
class NotifyVerdict:
    """Whether a rule holds, and one sentence for each of its conditions."""

    notify: NotifySection
    matched: bool
    explanation: tuple[str, ...]


def judge(rules: Sequence[NotifySection], facts: ResultFacts) -> list[NotifyVerdict]:
    """Hold every rule against a result; one verdict each, in the same order. All conditions a rule states must hold."""
    return [_verdict(rule, facts) for rule in rules]


def concerns(rule: NotifySection, routing_rule: str) -> bool:
    """Whether a rule can say anything about results of a routing rule."""
    if routing_rule == CANARY:
        # A phantom: nobody is called, and it goes nowhere but to its own test AE.
        return False
    return not rule.when.rule or _fits(routing_rule.partition(SEPARATOR)[0], rule.when.rule)


def unwanted_profiles(
    rules: Sequence[NotifySection],
    facts: ResultFacts,
    *,
    destinations: Collection[str],
    further: Mapping[str, Collection[str]],
) -> frozenset[str]:
    """Profiles whose objects nobody gets: they were made for destinations of rules that do not hold.

    Parameters
    ----------
    destinations : collection of str
        Profiles that are sent whatever the result.
    further : mapping
        Name of a notify rule → profiles of its destinations.
    """
    held = {verdict.notify.name for verdict in judge(rules, facts) if verdict.matched}
    wanted = {profile for name, profiles in further.items() if name in held for profile in profiles}
    made = {profile for profiles in further.values() for profile in profiles}
    return frozenset(made - wanted - set(destinations))


def _verdict(rule: NotifySection, facts: ResultFacts) -> NotifyVerdict:
    checks = [check for condition in _CONDITIONS for check in condition(rule.when, facts)]
    return NotifyVerdict(rule, all(held for held, _ in checks), tuple(sentence for _, sentence in checks))


def _words(when: NotifyWhen, facts: ResultFacts) -> list[_Check]:
    checks = []
    for key, asked, present in (
        ("rule", when.rule, [facts.rule.partition(SEPARATOR)[0]]),
        ("model", when.model, [facts.model]),
        ("priority", list(when.priority), [facts.priority]),
        ("outcome", list(when.outcome), [facts.outcome]),
        ("side", list(when.side), list(facts.sides)),
        ("refusal", when.refusal, [facts.refusal_code] if facts.refusal_code else []),
    ):
        if not asked:
            continue
        held = any(_fits(value, asked) for value in present)
        shown = " and ".join(f"'{value}'" for value in present) or "nothing"
        checks.append((held, f"{key}: {shown} {'matches' if held else 'does not match'} {_listed(asked)}"))
    return checks


def _volume(when: NotifyWhen, facts: ResultFacts) -> list[_Check]:
    checks = []
    for key, limit, holds in (
        ("volume_ml_over", when.volume_ml_over, lambda volume, limit: volume > limit),
        ("volume_ml_under", when.volume_ml_under, lambda volume, limit: volume < limit),
    ):
        if limit is None:
            continue
        if facts.total_ml is None:
            checks.append((False, f"{key}: nothing was measured; asked for {limit:g} mL"))
        else:
            held = holds(facts.total_ml, limit)
            checks.append((held, f"{key}: {facts.total_ml:.2f} mL, asked for {limit:g} mL"))
    return checks


def _finding(when: NotifyWhen, facts: ResultFacts) -> list[_Check]:
    """A finding counts by name; with ``probability_over`` by its probability, else by being present."""
    if not when.finding and when.probability_over is None:
        return []
    named = [each for each in facts.findings if not when.finding or _is_named(each, when.finding)]
    counted = [each for each in named if _counts(each, when.probability_over)]
    if when.probability_over is None and _names_target(when, facts) and facts.outcome == "found":
        return [(True, f"finding: what was looked for matches {_listed(when.finding)} and was found")]
    limit = "present" if when.probability_over is None else f"over {when.probability_over:g}"
    asked = f"asked for {_listed(when.finding) or 'any'}, {limit}"
    shown = (
        ", ".join(f"{each.concept.meaning} {each.probability:.2f}" for each in counted or named) or "no such finding"
    )
    return [(bool(counted), f"finding: {shown}; {asked}")]


def _names_target(when: NotifyWhen, facts: ResultFacts) -> bool:
    target = facts.finding
    return target is not None and any(_fits(word, when.finding) for word in (target.value, target.meaning))


def _counts(finding: FindingFacts, over: float | None) -> bool:
    return finding.present if over is None else finding.probability > over


def _is_named(finding: FindingFacts, patterns: Sequence[str]) -> bool:
    return any(_fits(word, patterns) for word in (finding.concept.value, finding.concept.meaning))


def _fits(value: str, patterns: Sequence[str]) -> bool:
    folded = value.strip().casefold()
    return any(fnmatchcase(folded, pattern.strip().casefold()) for pattern in patterns)


def _listed(words: Sequence[str]) -> str:
    return " or ".join(f"'{word}'" for word in words)


_CONDITIONS: tuple[Callable[[NotifyWhen, ResultFacts], list[_Check]], ...] = (_words, _volume, _finding)
