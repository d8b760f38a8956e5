"""What the node intends for an order whose images have not come yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node import jj1017
from node.orders import Order
from node.routing.conditions import fits, order_checks
from node.runs import priority_of
from node.settings import RuleSection


def intended(order: Order, rules: Sequence[RuleSection]) -> list[str]:
    """Rules that the order does not rule out, each with the priority it would have.

    Images decide in the end; what is said here is only that nothing in the order speaks against it.
    """
    found = []
    for rule in rules:
        if rule.match.modality and order.modality and not fits(order.modality, rule.match.modality):
            continue
        if not all(held for held, _ in order_checks(rule.match.order, [order])):
            continue
        if rule.match.station_name and order.station_name and not fits(order.station_name, rule.match.station_name):
            continue
        shadow = ", shadow" if rule.shadow else ""
        found.append(f"{rule.name} ({priority_of(rule, [order]).name.lower().replace('_', '-')}{shadow})")
    return found


def procedure_words(order: Order, *, language: str = "en", parts: Mapping[str, str] | None = None) -> str:
    """What was ordered, in words: description, meaning of the code, or what a JJ1017 code says.

    Parameters
    ----------
    parts : mapping or None
        Names of body parts in JJ1017 codes, beside those known everywhere.
    """
    labels = [
        each.label(language=language, parts=parts)
        for code in order.codes
        if (each := jj1017.decode(code.value, code.scheme)) is not None
    ]
    meanings = [code.meaning for code in order.codes if code.meaning]
    said = (order.requested_procedure_description, order.step_description, *meanings, *labels)
    return next((words for words in said if words), ", ".join(code.value for code in order.codes))
