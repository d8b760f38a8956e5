"""Every rule against a study: whether it fires, on which series, and a sentence for each of its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.routing.conditions import Check, circumstance_checks, image_checks, order_checks
from node.routing.facts import Circumstances, InstanceFacts, by_series, count
from node.settings import RoleSection, RuleSection


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """Whether a rule fires, and one sentence for each of its conditions.

    Attributes
    ----------
    series : frozenset of str or None
        Series the rule's roles have chosen; None: the rule has no roles and takes the whole study.
    """

    rule: RuleSection
    matched: bool
    explanation: tuple[str, ...]
    series: frozenset[str] | None = None


def match(
    rules: Sequence[RuleSection], instances: Sequence[InstanceFacts], circumstances: Circumstances = Circumstances()
) -> list[RuleVerdict]:
    """Hold every rule against a study.

    Parameters
    ----------
    rules : sequence of RuleSection
        In the order of routing.toml.
    instances : sequence of InstanceFacts
        The study's instances; those this node made itself are left out by the caller.
    circumstances : Circumstances
        Order, hour and study.

    Returns
    -------
    list of RuleVerdict
        One for each rule, in the same order. A condition holds when at least one instance satisfies it; a rule
        matches when every condition it states holds and every role it requires is filled.
    """
    return [_verdict(rule, instances, circumstances) for rule in rules]


def _verdict(rule: RuleSection, instances: Sequence[InstanceFacts], circumstances: Circumstances) -> RuleVerdict:
    checks = [
        *image_checks(rule.match, instances),
        *order_checks(rule.match.order, circumstances.orders),
        *circumstance_checks(rule, circumstances),
    ]
    chosen: set[str] = set()
    series = by_series(instances)
    for role in rule.role:
        uid, check = _filled(role, series)
        checks.append(check)
        chosen |= {uid} if uid is not None else set()
    return RuleVerdict(
        rule,
        all(held for held, _ in checks),
        tuple(sentence for _, sentence in checks),
        frozenset(chosen) if rule.role else None,
    )


def _filled(role: RoleSection, series: dict[str, list[InstanceFacts]]) -> tuple[str | None, Check]:
    """The series that plays a part: of those that fit the first candidate any fits, the one with the most images."""
    nearest = ""
    for rank, candidate in enumerate(role.candidate, start=1):
        fitting = []
        for uid, instances in series.items():
            failed = [words for held, words in image_checks(candidate, instances) if not held]
            if not failed:
                fitting.append((count(instances), _number(instances), uid))
            elif len(failed) == 1 and not nearest:
                nearest = f"; nearest: {_name(instances)}, but {failed[0]}"
        if fitting:
            _, _, uid = max(fitting)
            others = f", of {len(fitting)} that fit the one with the most images" if len(fitting) > 1 else ""
            words = f"role {role.name}: {_name(series[uid])} by candidate {rank} of {len(role.candidate)}{others}"
            return uid, (True, words)
    words = f"role {role.name}: none of {len(series)} series fits any of {len(role.candidate)} candidate(s){nearest}"
    return None, (not role.required, words)


def _number(instances: Sequence[InstanceFacts]) -> float:
    """Series Number: of two series alike, the later one is the repetition."""
    return max((float(each) for facts in instances for each in facts.tag("SeriesNumber")), default=0.0)


def _name(instances: Sequence[InstanceFacts]) -> str:
    said = str(instances[0].headers.get("series_description") or "") if instances else ""
    return f"series '{said}' ({count(instances)} image(s))" if said else f"a series of {count(instances)} image(s)"
