"""Conditions of rules, each with a sentence that says what was found and what was asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from node import jj1017
from node.orders import Order
from node.routing.facts import Circumstances, InstanceFacts, count
from node.settings import ImageMatch, OrderMatch, RuleMatch, RuleSection

Check = tuple[bool, str]

# Key of a rule's condition → key of the instance's routing headers (node/archive/headers.py).
_HEADER_OF = {
    "body_part": "body_part",
    "study_description": "study_description",
    "series_description": "series_description",
    "protocol_name": "protocol_name",
    "image_type": "image_type",
    "procedure_code": "procedure_codes",
    "station_name": "station_name",
    "manufacturer": "manufacturer",
    "plane": "plane",
}
_SHOWN_VALUES = 4
# Vendors round b-values; 50 s/mm2 or a twentieth part is the same b-value.
_B_TOLERANCE = 50.0


def image_checks(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    """Every condition that is stated; one holds when at least one instance satisfies it."""
    checks = [_text(key, patterns, _values(instances, key)) for key, patterns in _text_conditions(wanted)]
    checks += [
        _text(f"tag.{keyword}", patterns, _distinct(facts.tag(keyword) for facts in instances))
        for keyword, patterns in wanted.tag.items()
    ]
    if wanted.kernel:
        checks.append(_text("kernel", wanted.kernel, _distinct(facts.tag("ConvolutionKernel") for facts in instances)))
    if wanted.contrast_phase:
        found = _distinct([facts.contrast_phase] for facts in instances)
        checks.append(_text("contrast_phase", wanted.contrast_phase, found))
    for check in (_diffusion, _b_values, _contrast, _thickness):
        checks += check(wanted, instances)
    return [*checks, *_counts(wanted, instances)]


def _text_conditions(wanted: ImageMatch) -> list[tuple[str, list[str]]]:
    keys = ["modality", *_HEADER_OF]
    if isinstance(wanted, RuleMatch):
        keys += ["calling_ae_title", "called_ae_title"]
    return [(key, patterns) for key in keys if (patterns := list(getattr(wanted, key)))]


def _text(key: str, patterns: Sequence[str], present: Sequence[str]) -> Check:
    hits = [value for value in present if fits(value, patterns)]
    asked = " or ".join(f"'{pattern}'" for pattern in patterns)
    if hits:
        return True, f"{key}: '{hits[0]}' matches {asked}"
    if present:
        return False, f"{key}: {_listed(present)} does not match {asked}"
    return False, f"{key}: absent from every image; asked for {asked}"


def _values(instances: Sequence[InstanceFacts], key: str) -> list[str]:
    if key in _HEADER_OF:
        return _distinct(_several(facts.headers.get(_HEADER_OF[key])) for facts in instances)
    return _distinct([getattr(facts, key)] for facts in instances)


def _several(value: object) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(each) for each in values if each not in (None, "")]


def _distinct(values: object) -> list[str]:
    return sorted({each for several in values for each in several if each})  # type: ignore[attr-defined]


def fits(value: str, patterns: Sequence[str]) -> bool:
    """Whether a text matches one of several shell patterns, whatever its case."""
    folded = value.strip().casefold()
    return any(fnmatchcase(folded, pattern.strip().casefold()) for pattern in patterns)


def _listed(values: Sequence[str]) -> str:
    shown = ", ".join(f"'{value}'" for value in values[:_SHOWN_VALUES])
    return shown if len(values) <= _SHOWN_VALUES else f"{shown} and {len(values) - _SHOWN_VALUES} more"


def _diffusion(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    if wanted.diffusion is None:
        return []
    number = sum(1 for facts in instances if facts.headers.get("diffusion"))
    found = f"{number} of {len(instances)} images are diffusion images"
    return [
        ((number > 0) == wanted.diffusion, f"diffusion: {found}; asked for {'some' if wanted.diffusion else 'none'}")
    ]


def _b_values(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    if not wanted.b_values:
        return []
    present = sorted({float(b) for facts in instances if (b := facts.headers.get("b_value")) is not None})
    lacking = [b for b in wanted.b_values if all(abs(b - each) > max(_B_TOLERANCE, b / 20) for each in present)]
    found = ", ".join(f"{b:g}" for b in present) or "none"
    asked = " and ".join(f"{b:g}" for b in wanted.b_values)
    return [(not lacking, f"b_values: {found} s/mm2; asked for {asked}")]


def _contrast(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    if wanted.contrast is None:
        return []
    number = sum(1 for facts in instances if facts.tag("ContrastBolusAgent"))
    found = f"{number} of {len(instances)} images name a contrast agent"
    return [((number > 0) == wanted.contrast, f"contrast: {found}; asked for {'some' if wanted.contrast else 'none'}")]


def _thickness(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    if wanted.slice_thickness_maximum is None:
        return []
    present = sorted({float(each) for facts in instances for each in facts.tag("SliceThickness")})
    asked = f"asked for at most {wanted.slice_thickness_maximum:g} mm"
    if not present:
        return [(False, f"slice_thickness_maximum: no image names a slice thickness; {asked}")]
    held = present[0] <= wanted.slice_thickness_maximum
    return [(held, f"slice_thickness_maximum: the thinnest slices have {present[0]:g} mm; {asked}")]


def _counts(wanted: ImageMatch, instances: Sequence[InstanceFacts]) -> list[Check]:
    """Count the images of the modality asked for; a multi-frame object counts its frames."""
    counted = [facts for facts in instances if not wanted.modality or fits(facts.modality, wanted.modality)]
    number = count(counted)
    checks = [
        (
            bool(counted) and number >= wanted.minimum_instances,
            f"minimum_instances: {number} image(s) or frame(s), asked for {wanted.minimum_instances}",
        )
    ]
    if wanted.maximum_instances is not None:
        held = number <= wanted.maximum_instances
        checks.append(
            (held, f"maximum_instances: {number} image(s) or frame(s), asked for {wanted.maximum_instances} at most")
        )
    return checks


_ORDERED: dict[str, Callable[[Order], list[str]]] = {
    "procedure_code": lambda order: [code.value for code in order.codes],
    "procedure_description": lambda order: [
        order.requested_procedure_description,
        order.step_description,
        *(code.meaning for code in order.codes),
    ],
    "reason": lambda order: [order.reason],
    "priority": lambda order: [order.priority],
    "station_ae_title": lambda order: [order.station_ae_title],
    "jj1017_kind": lambda order: [each.kind for each in _procedures(order)],
    "jj1017_part": lambda order: [each.part for each in _procedures(order)],
    "jj1017_side": lambda order: [each.side for each in _procedures(order)],
}


def order_checks(wanted: OrderMatch | None, orders: Sequence[Order]) -> list[Check]:
    """Every condition on the order that is stated."""
    if wanted is None:
        return []
    if not orders:
        return [(False, "order: no order is known that agrees with the images")]
    checks = []
    for key in OrderMatch.model_fields:
        if patterns := getattr(wanted, key):
            present = _distinct(_ORDERED[key](order) for order in orders)
            held, words = _text(f"order.{key}", patterns, present)
            checks.append((held, f"{words}{_labels(key, orders)}"))
    return checks or [(True, "order: one is known that agrees with the images")]


def _procedures(order: Order) -> list[jj1017.Procedure]:
    return [each for code in order.codes if (each := jj1017.decode(code.value, code.scheme)) is not None]


def _labels(key: str, orders: Sequence[Order]) -> str:
    if not key.startswith(("jj1017", "procedure_code")):
        return ""
    labels = _distinct([each.label()] for order in orders for each in _procedures(order))
    return f" ({'; '.join(labels)})" if labels else ""


def circumstance_checks(rule: RuleSection, circumstances: Circumstances) -> list[Check]:
    """Hours and sample."""
    checks: list[Check] = []
    if rule.hours and circumstances.minute_of_day is not None:
        now = circumstances.minute_of_day
        held = any(_within(span, now) for span in rule.hours)
        checks.append((held, f"hours: it is {now // 60:02d}:{now % 60:02d}; asked for {' or '.join(rule.hours)}"))
    if rule.sample_percent < 100.0:
        place = _place_in_sample(rule.name, circumstances.study_uid)
        checks.append(
            (
                place < rule.sample_percent,
                f"sample_percent: the study's place is {place:.2f} of 100; the sample is those below "
                f"{rule.sample_percent:g}",
            )
        )
    return checks


def _within(span: str, minute: int) -> bool:
    begin, end = (int(each[:2]) * 60 + int(each[3:]) for each in span.split("-"))
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _place_in_sample(rule: str, study_uid: str) -> float:
    """A number from 0 to 100, the same for a rule and a study each time, and evenly spread over studies."""
    digest = hashlib.sha256(f"{rule} {study_uid}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100.0
