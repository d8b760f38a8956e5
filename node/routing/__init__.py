"""Which rules a study matches, and why (not). Pure: headers and orders in, verdicts out."""

from node.routing.facts import Circumstances, InstanceFacts
from node.routing.match import RuleVerdict, match

__all__ = ["Circumstances", "InstanceFacts", "RuleVerdict", "match"]
