"""What rules of who is told look at: the typed result of a run, as its job keeps it. Nothing of it names a patient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.results import Outcome
from node.jobs.queue import Priority


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Term(_Part):
    """A coded concept (PS3.3 8.2)."""

    value: str
    scheme: str
    meaning: str


class RegionFacts(_Part):
    """One segmented finding, with its volume where it has one; ``side`` is a value of :class:`models.results.Laterality`."""

    label: str
    volume_ml: float | None
    side: str = "unknown"


class FindingFacts(_Part):
    """A condition with its probability in [0, 1]."""

    concept: Term
    probability: float
    present: bool
    side: str = "unknown"


class ResultFacts(_Part):
    """What a run says.

    Attributes
    ----------
    rule : str
        Of routing.toml.
    priority : str
        Of the run: ``stat``, ``urgent``, ``routine`` or ``off-peak``.
    outcome : str
        :class:`models.results.Outcome`; a run that failed for good is ``not_assessed``.
    total_ml : float or None
        Sum over regions, in mL.
    text : str
        Impression of the draft in the node's first language; empty where there is none.
    refusal_code, refusal : str
        Why nothing was assessed.
    """

    rule: str
    model: str
    model_version: str = ""
    run: int
    priority: str
    outcome: str
    title: str = ""
    finding: Term | None = None
    site: Term | None = None
    total_ml: float | None = None
    detection_limit_ml: float | None = None
    regions: tuple[RegionFacts, ...] = ()
    findings: tuple[FindingFacts, ...] = ()
    text: str = ""
    refusal_code: str = ""
    refusal: str = ""

    @property
    def assessed(self) -> bool:
        """Whether the run can say that something is, or is not, there."""
        return self.outcome in (Outcome.FOUND, Outcome.NOTHING_FOUND)

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides of what was found, without those that are not known; a structure outlined on a radiograph is no finding."""
        found = [region.side for region in self.regions if region.volume_ml is not None]
        found += [finding.side for finding in self.findings if finding.present]
        return tuple(dict.fromkeys(side for side in found if side != "unknown"))


def facts_of_result(
    *, rule: str, model: str, run: int, priority: int, outcome: str, summary: Mapping[str, Any]
) -> ResultFacts:
    """Facts of a run that ended with a result, a refusal included.

    Parameters
    ----------
    summary : mapping
        ``ResultBundle.summary``.
    """
    refusal = summary.get("refusal") or {}
    return ResultFacts.model_validate(
        {
            "rule": rule,
            "model": model,
            "model_version": summary.get("model_version") or "",
            "run": run,
            "priority": _word(priority),
            "outcome": outcome,
            "title": summary.get("title") or "",
            "finding": summary.get("finding"),
            "site": summary.get("site"),
            "total_ml": summary.get("total_ml"),
            "detection_limit_ml": summary.get("detection_limit_ml"),
            "regions": [{**each, "side": each.get("laterality", "unknown")} for each in summary.get("regions", ())],
            "findings": summary.get("findings", ()),
            "text": next((text for text in (summary.get("texts") or {}).values() if text), ""),
            "refusal_code": refusal.get("code", ""),
            "refusal": refusal.get("message", ""),
        }
    )


def facts_of_failure(*, rule: str, model: str, run: int, priority: int, code: str, message: str) -> ResultFacts:
    """Facts of a run that failed for good."""
    return ResultFacts(
        rule=rule,
        model=model,
        run=run,
        priority=_word(priority),
        outcome=Outcome.NOT_ASSESSED.value,
        title=f"Analysis by {model}",
        refusal_code=code,
        refusal=message,
    )


def _word(priority: int) -> str:
    return Priority(priority).name.lower().replace("_", "-")
