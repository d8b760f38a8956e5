"""Which rules a study matches, and why (not). Pure: headers in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from node.settings import RuleMatch, RuleSection

# Key of a rule's condition → key of the instance's routing headers (node/archive/headers.py).
_HEADER_OF = {
    "body_part": "body_part",
    "study_description": "study_description",
    "protocol_name": "protocol_name",
    "procedure_code": "procedure_codes",
    "station_name": "station_name",
    "manufacturer": "manufacturer",
}
_SHOWN_VALUES = 4


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What routing sees of one instance.

    Attributes
    ----------
    modality, calling_ae_title, called_ae_title : str
        As received.
    headers : mapping
        ``InstanceHeader.routing`` of node/archive/headers.py.
    """

    modality: str = ""
    calling_ae_title: str = ""
    called_ae_title: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """Whether a rule fires, and one sentence for each of its conditions."""

    rule: RuleSection
    matched: bool
    explanation: tuple[str, ...]


def match(rules: Sequence[RuleSection], instances: Sequence[InstanceFacts]) -> list[RuleVerdict]:
    """Hold every rule against a study.

    Parameters
    ----------
    rules : sequence of RuleSection
        In the order of routing.toml.
    instances : sequence of InstanceFacts
        The study's instances; those this node made itself are left out by the caller.

    Returns
    -------
    list of RuleVerdict
        One for each rule, in the same order. A condition holds when at least one instance satisfies it; a rule
        matches when every condition it states holds.
    """
    return [_verdict(rule, instances) for rule in rules]


def _verdict(rule: RuleSection, instances: Sequence[InstanceFacts]) -> RuleVerdict:
    checks = [
        *_text_checks(rule.match, instances),
        *_diffusion_check(rule.match, instances),
        _count_check(rule.match, instances),
    ]
    return RuleVerdict(rule, all(held for held, _ in checks), tuple(sentence for _, sentence in checks))


def _text_checks(wanted: RuleMatch, instances: Sequence[InstanceFacts]) -> list[tuple[bool, str]]:
    checks = []
    for key, patterns in _text_conditions(wanted):
        present = sorted({value for facts in instances for value in _values(facts, key)})
        hits = [value for value in present if _fits(value, patterns)]
        asked = " or ".join(f"'{pattern}'" for pattern in patterns)
        if hits:
            checks.append((True, f"{key}: '{hits[0]}' matches {asked}"))
        elif present:
            checks.append((False, f"{key}: {_listed(present)} does not match {asked}"))
        else:
            checks.append((False, f"{key}: absent from every image; asked for {asked}"))
    return checks


def _text_conditions(wanted: RuleMatch) -> list[tuple[str, list[str]]]:
    keys = ("modality", *_HEADER_OF, "calling_ae_title", "called_ae_title")
    return [(key, patterns) for key in keys if (patterns := getattr(wanted, key))]


def _values(facts: InstanceFacts, key: str) -> list[str]:
    value = facts.headers.get(_HEADER_OF[key]) if key in _HEADER_OF else getattr(facts, key)
    values = value if isinstance(value, list | tuple) else [value]
    return [str(each) for each in values if each not in (None, "")]


def _fits(value: str, patterns: Sequence[str]) -> bool:
    folded = value.strip().casefold()
    return any(fnmatchcase(folded, pattern.strip().casefold()) for pattern in patterns)


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(f"'{value}'" for value in values[:_SHOWN_VALUES])
    return shown if len(values) <= _SHOWN_VALUES else f"{shown} and {len(values) - _SHOWN_VALUES} more"


def _diffusion_check(wanted: RuleMatch, instances: Sequence[InstanceFacts]) -> list[tuple[bool, str]]:
    if wanted.diffusion is None:
        return []
    count = sum(1 for facts in instances if facts.headers.get("diffusion"))
    found = f"{count} of {len(instances)} images are diffusion images"
    return [
        ((count > 0) == wanted.diffusion, f"diffusion: {found}; asked for {'some' if wanted.diffusion else 'none'}")
    ]


def _count_check(wanted: RuleMatch, instances: Sequence[InstanceFacts]) -> tuple[bool, str]:
    """Count the images of the modality asked for; a multi-frame object counts its frames."""
    counted = [facts for facts in instances if not wanted.modality or _fits(facts.modality, wanted.modality)]
    number = sum(max(1, int(facts.headers.get("number_of_frames") or 1)) for facts in counted)
    held = bool(counted) and number >= wanted.minimum_instances
    return held, f"minimum_instances: {number} image(s) or frame(s), asked for {wanted.minimum_instances}"
