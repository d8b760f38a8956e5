"""A study as an archive lists it, held against what this node has and has answered. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from node.orders import Order
from node.routing.conditions import fits, order_checks
from node.settings import RuleSection

NO_IMAGES = frozenset(
    {"SR", "KO", "PR", "SEG", "DOC", "AU", "REG", "FID", "PLAN", "RTSTRUCT", "RTPLAN", "RTDOSE", "M3D"}
)
"""Modalities of what people and software add to a study (PS3.3 C.7.3.1.1.1)."""


class Finding(StrEnum):
    """What is wrong with a study."""

    MISSING = "missing"
    UNANSWERED = "unanswered"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class ListedStudy:
    """A study as an archive lists it (PS3.4 C.6.2.1, level STUDY).

    Attributes
    ----------
    starts_at : float or None
        Study Date and Time by the site's wall clock, seconds since the epoch.
    instances : int or None
        Number of Study Related Instances, results included; None where the archive does not say.
    """

    study_uid: str
    accession_number: str = ""
    modalities: tuple[str, ...] = ()
    starts_at: float | None = None
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One object at one destination."""

    destination: str
    state: str  # of the delivery
    series_uid: str
    created_at: float
    sent_at: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """The latest run of a rule."""

    job_id: int
    rule: str
    state: str
    created_at: float
    error: str = ""
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What this node knows of a study.

    Attributes
    ----------
    images : mapping
        Series → number of images here, the node's own objects apart.
    last_at : float or None
        When the last image came; None where none did.
    runs : tuple of Run
        Runs that owe an answer: no shadows, nothing cancelled or superseded.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    state: str = ""
    last_at: float | None = None
    held: str = ""
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, and the words for it; ``finding`` is None where nothing is."""

    finding: Finding | None
    words: str = ""


def images_of(counts: Mapping[str, tuple[str, int]], ours: frozenset[str]) -> dict[str, int]:
    """Series → number of images, of an archive's counts (modality, number) by series, without what this node made."""
    return {
        series: number
        for series, (modality, number) in counts.items()
        if series not in ours and modality not in NO_IMAGES and number
    }


def wanted(rules: Sequence[RuleSection], modalities: Sequence[str], orders: Sequence[Order] = ()) -> list[RuleSection]:
    """Rules that may want a study, by what an archive's list and the orders tell. Images decide in the end."""
    return [
        rule
        for rule in rules
        if (not rule.match.modality or not modalities or any(fits(each, rule.match.modality) for each in modalities))
        and (not orders or all(held for held, _ in order_checks(rule.match.order, list(orders))))
    ]


def judge(
    there: Mapping[str, tuple[str, int]],
    known: Known,
    *,
    archive: str,
    ours: frozenset[str],
    now: float,
    late_seconds: float,
) -> Verdict:
    """Hold an archive's series against what the node knows.

    Parameters
    ----------
    there : mapping
        Series → modality and number of instances at the archive.
    archive : str
        Name of the destination that was asked.
    ours : frozenset of str
        Series this node made.
    """
    images = images_of(there, ours)
    missing = sum(max(0, number - known.images.get(series, 0)) for series, number in images.items())
    if missing:
        total = sum(images.values())
        here = f"{total - missing} of them" if total > missing else "none of them"
        return Verdict(
            Finding.MISSING, f"the archive has {total} image(s) in {len(images)} series, this node has {here}"
        )
    if known.held:
        return Verdict(Finding.UNANSWERED, f"the study is held: {known.held}")
    if known.last_at is None:
        return Verdict(None, "the archive has no images of it")
    if known.state != "complete":
        if now - known.last_at > late_seconds:
            return Verdict(
                Finding.LATE, f"no image for {_span(now - known.last_at)}, and it still waits to be complete"
            )
        return Verdict(None, "it is being received")
    verdicts = [_judge_run(run, set(there), known.last_at, archive, now, late_seconds) for run in known.runs]
    for finding in (Finding.UNANSWERED, Finding.LATE):
        if found := [verdict for verdict in verdicts if verdict.finding is finding]:
            return Verdict(finding, "; ".join(verdict.words for verdict in found))
    return Verdict(None, "answered" if known.runs else "no rule fired")


def _judge_run(
    run: Run, series_there: set[str], last_at: float, archive: str, now: float, late_seconds: float
) -> Verdict:
    name = f"job {run.job_id} ({run.rule})"
    if run.state in ("queued", "running"):
        if now - last_at > late_seconds:
            return Verdict(Finding.LATE, f"{name} is {run.state} {_span(now - last_at)} after the last image")
        return Verdict(None)
    if run.state in ("failed", "dead") and not run.answers:
        return Verdict(Finding.UNANSWERED, f"{name} is {run.state} and nobody was told: {run.error or '?'}")
    if dead := sorted({each.destination for each in run.answers if each.state == "dead"}):
        return Verdict(Finding.UNANSWERED, f"the answer of {name} was given up on for {', '.join(dead)}")
    said = [each for each in run.answers if each.destination == archive and each.state in ("stored", "committed")]
    if lost := {each.series_uid for each in said} - series_there:
        return Verdict(
            Finding.UNANSWERED, f"{archive} took {len(lost)} series of the answer of {name} and does not list them"
        )
    waiting = sorted({each.destination for each in run.answers if each.state not in ("stored", "committed")})
    if waiting and now - last_at > late_seconds:
        return Verdict(Finding.LATE, f"the answer of {name} waits for {', '.join(waiting)}")
    sent = [each.sent_at for each in run.answers if each.sent_at is not None]
    if sent and min(sent) - last_at > late_seconds:
        return Verdict(Finding.LATE, f"{name} was answered {_span(min(sent) - last_at)} after the last image")
    return Verdict(None)


def _span(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def local(at: float | None) -> str:
    """A moment by the site's wall clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else "-"
