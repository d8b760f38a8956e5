"""On what grounds a study may count as complete, and from which moment on each of them holds.

A ground is something that news alone could still overturn; from its moment on it decides. The strongest comes first:
exact lists (MPPS, IAN, the input of a workitem, the archive's own count), then the end of every association, then silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from node.arrival.events import Source, StepStatus
from node.arrival.state import Listing, State
from node.settings import ArrivalSection

_EXACT = (Source.MPPS, Source.NOTIFICATION, Source.WORKITEM)


@dataclass(frozen=True, slots=True)
class Ground:
    """Why a study is complete from ``due`` on (monotonic seconds), in words.

    ``series``: the ground is for these series only, and the decision provisional.
    """

    due: float
    reason: str
    words: str
    series: frozenset[str] = frozenset()


def grounds(state: State, policy: ArrivalSection) -> list[Ground]:
    """Every ground for a study that waits and of which something is here, the strongest first."""
    assert state.last_at is not None and state.first_at is not None
    return [
        *_exact_lists(state),
        *_archive(state, policy),
        *_commitment(state, policy),
        *_association_end(state, policy),
        *_silence(state, policy),
    ]


def early_grounds(state: State, policy: ArrivalSection) -> list[Ground]:
    """Grounds on which single series are complete though the study is not."""
    found = []
    for uid, seen in state.series.items():
        if uid in state.ready:
            continue
        # Where something else has come since, a modality has gone on to the next series.
        others = any(each.last > seen.last for other, each in state.series.items() if other != uid)
        if (listing := _lists_series(state, uid)) is not None:
            words = f"a series is complete: {seen.count} instance(s) by {listing.source.value}"
            found.append(Ground(max(seen.last, listing.told), "series", words, frozenset([uid])))
        elif others and not _short_of(state, uid):
            words = (
                f"a series is complete: another one has begun, and no image of it for {policy.series_quiet_seconds:g} s"
            )
            found.append(Ground(seen.last + policy.series_quiet_seconds, "series", words, frozenset([uid])))
    return found


def _lists_series(state: State, series_uid: str) -> Listing | None:
    for listing in state.lists.values():
        if listing.source in _EXACT and not listing.spent:
            for each in listing.series:
                if each.series_uid == series_uid and each.expected and not each.missing:
                    return listing
    return None


def _short_of(state: State, series_uid: str) -> bool:
    """Whether any list names images of the series that are not here."""
    named = (each for listing in state.lists.values() for each in listing.series)
    return any(each.series_uid == series_uid and each.missing for each in named)


def _by_source(state: State, source: Source) -> list[Listing]:
    return [each for each in state.lists.values() if each.source is source and each.expected and not each.spent]


def _in_progress(state: State) -> bool:
    return StepStatus.IN_PROGRESS in state.steps.values()


def _missing(state: State) -> list[Listing]:
    return [each for each in state.lists.values() if each.missing]


def _last(state: State) -> float:
    assert state.last_at is not None
    return state.last_at.seconds


def _full(listings: list[Listing], state: State) -> str:
    """``3 of 3 series, 412 of 412 instances by MPPS``, and what is here beside."""
    series = {each.series_uid for listing in listings for each in listing.series}
    whole = {each.series_uid for listing in listings for each in listing.series if not each.missing}
    expected, held = sum(each.expected for each in listings), sum(each.held for each in listings)
    words = f"{held} of {expected} instances by {listings[0].source.value}"
    if series != {""}:
        words = f"{len(whole)} of {len(series)} series, {words}"
    beside = state.here - held
    return f"{words}; {beside} more image(s) are here" if beside > 0 else words


def _exact_lists(state: State) -> Iterator[Ground]:
    if _in_progress(state):
        return
    for source in _EXACT:
        listings = _by_source(state, source)
        if not listings or any(each.missing for each in listings):
            continue
        # More than was listed, and more on its way: the list was made too early.
        if state.open and state.here > sum(each.expected for each in listings):
            continue
        due = max(_last(state), *(each.told for each in listings))
        yield Ground(due, source.name.lower(), f"complete: {_full(listings, state)}")


def _archive(state: State, policy: ArrivalSection) -> Iterator[Ground]:
    """The archive has what is here: conclusive when the sender is through, or when it stays so for a while."""
    if _in_progress(state) or _missing(state):
        return
    for listing in _by_source(state, Source.ARCHIVE):
        if listing.expected != state.here:
            continue
        settle = policy.archive_settle_seconds
        if state.rhythm is not None:
            settle = max(settle, state.rhythm.between_seconds)
        through = _all_ended_orderly(state) and settle <= policy.archive_settle_seconds
        # Where the sender is not known to be through, it takes two answers that say the same.
        if through or listing.told >= max(_last(state), listing.same_since) + settle:
            yield Ground(max(_last(state), listing.told), "archive", f"complete: {_full([listing], state)}")


def _commitment(state: State, policy: ArrivalSection) -> Iterator[Ground]:
    """A modality asks for commitment when it has sent what it asks about; it may send another series after that."""
    listings = _by_source(state, Source.COMMITMENT)
    if not listings or _in_progress(state) or _missing(state) or sum(each.held for each in listings) < state.here:
        return
    due = max(_last(state), *(each.told for each in listings)) + _between(state, policy)
    yield Ground(due, "commitment", f"complete: {_full(listings, state)}")


def _association_end(state: State, policy: ArrivalSection) -> Iterator[Ground]:
    if not _all_ended_orderly(state) or state.ended_at is None or _in_progress(state) or _missing(state):
        return
    wait = _between(state, policy)
    how_many = "the association" if state.ended == 1 else f"all {state.ended} associations"
    words = f"{how_many} that carried images ended orderly and nothing came for {wait:.1f} s{_learnt(state, wait)}"
    yield Ground(max(state.ended_at.seconds, _last(state)) + wait, "association_end", words)


def _silence(state: State, policy: ArrivalSection) -> Iterator[Ground]:
    assert state.first_at is not None
    told = max([_last(state), *(each.told for each in state.lists.values())])
    if _in_progress(state):
        wait = policy.performed_step_wait_seconds
        words = f"a performed procedure step is still in progress, but nothing came for {wait:g} s"
        yield Ground(_last(state) + wait, "step_unfinished", words)
        return
    if short := _missing(state):
        wait = policy.missing_wait_seconds
        words = f"INCOMPLETE: {_full(short, state)}; the rest did not come within {wait:g} s"
        yield Ground(told + wait, "missing", words)
    else:
        wait = state.rhythm.quiet_seconds if state.rhythm else policy.quiet_seconds
        words = f"no image for {wait:.1f} s{_learnt(state, wait)}{_associations(state)}{_discontinued(state)}"
        yield Ground(_last(state) + wait, "quiet", words)
    wait = policy.maximum_wait_seconds
    words = f"waited {wait:.0f} s and images still come{_associations(state)}"
    yield Ground(state.first_at.seconds + wait, "maximum_wait", words)


def _between(state: State, policy: ArrivalSection) -> float:
    return state.rhythm.between_seconds if state.rhythm else policy.association_end_quiet_seconds


def _learnt(state: State, wait: float) -> str:
    return f" ({state.rhythm.words})" if state.rhythm is not None and wait > 0 else ""


def _all_ended_orderly(state: State) -> bool:
    return state.ended > 0 and not state.open and not state.broken


def _associations(state: State) -> str:
    parts = []
    if state.open:
        parts.append(f"{len(state.open)} association(s) still open")
    if state.broken:
        parts.append("an association was cut off")
    return "; " + ", ".join(parts) if parts else ""


def _discontinued(state: State) -> str:
    stopped = sum(status is StepStatus.DISCONTINUED for status in state.steps.values())
    return f"; {stopped} performed procedure step(s) discontinued" if stopped else ""
