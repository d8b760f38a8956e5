"""Counters and times taken from the ledger's new rows, so that no scrape counts old ones again.

The sealed sequence has no gaps and is the order of commitment; a reader that remembers the last number misses nothing.
Counters begin with the process, as Prometheus expects of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from sqlalchemy import Connection, func, select, true

from node.archive.event_kinds import Kind
from node.archive.tables import deliveries, instances, jobs, ledger, ledger_head, objects
from node.delivery.delivery_states import PROVEN

LATENCY_BUCKETS = (5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)
_PAGE = 5000
_PAGES = 20
_PROOF = (Kind.COMMITMENT_ANSWERED, Kind.DELIVERY_VERIFIED)
# Of these the rows are looked into; of all others only the number matters.
_DETAILED = (
    Kind.JOB_FINISHED,
    Kind.JOB_REFUSED,
    Kind.JOB_FAILED,
    Kind.JOB_DEAD,
    Kind.ASSOCIATION_REJECTED,
    Kind.TLS_REFUSED,
    *_PROOF,
)


class LedgerFold:
    """What new ledger rows add up to. Safe to share between threads.

    Parameters
    ----------
    registry : CollectorRegistry
        Where the histograms live.

    Attributes
    ----------
    events : Counter
        Kind → rows.
    runs : Counter
        (rule, outcome) → ended runs; outcome is ``failed`` where a run failed for good.
    refusals : Counter
        Reason code → refused runs.
    rejections : Counter
        Reason → associations and TLS handshakes refused.
    providers : Counter
        (model, execution provider) → runs.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events: Counter[str] = Counter()
        self.runs: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()
        self.providers: Counter[tuple[str, str]] = Counter()
        self._latency = Histogram(
            "ainode_last_image_to_commitment_seconds",
            "From the last image a run took to the proof that every destination has its results",
            ["rule"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._run_seconds = Histogram(
            "ainode_run_seconds",
            "Time of a run in the model host",
            ["rule"],
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self._ran = (0, 0.0)
        self._guard = threading.Lock()
        self._sequence: int | None = None

    @property
    def mean_run_seconds(self) -> float | None:
        """Of the runs seen so far; None before the first."""
        count, seconds = self._ran
        return seconds / count if count else None

    def take(self, connection: Connection) -> None:
        """Read what the sealer has chained since the last time; the first time only where it stands."""
        with self._guard:
            if self._sequence is None:
                self._sequence = connection.execute(select(ledger_head.c.sequence)).scalar_one_or_none() or 0
                return
            for _ in range(_PAGES):
                upper = self._sequence + _PAGE
                counted = self._count(connection, upper)
                if not counted:
                    return
                self._look_into(connection, upper)
                self._sequence += counted
                if counted < _PAGE:
                    return

    def _count(self, connection: Connection, upper: int) -> int:
        new = (ledger.c.sequence > self._sequence) & (ledger.c.sequence <= upper)
        rows = connection.execute(select(ledger.c.kind, func.count()).where(new).group_by(ledger.c.kind)).all()
        for kind, count in rows:
            self.events[kind] += int(count)
        return sum(int(count) for _, count in rows)

    def _look_into(self, connection: Connection, upper: int) -> None:
        new = (ledger.c.sequence > self._sequence) & (ledger.c.sequence <= upper)
        rows = connection.execute(
            select(ledger.c.kind, ledger.c.job_id, ledger.c.detail)
            .where(new, ledger.c.kind.in_([str(kind) for kind in _DETAILED]))
            .order_by(ledger.c.sequence)
        ).all()
        rules = _rules(connection, [row.job_id for row in rows if row.job_id is not None])
        proven = set()
        for row in rows:
            rule = rules.get(row.job_id, "")
            match row.kind:
                case Kind.JOB_FINISHED:
                    self._finished(row, rule)
                case Kind.JOB_REFUSED:
                    self.refusals[str(row.detail.get("code", "unknown"))] += 1
                case Kind.JOB_DEAD:
                    self.runs[rule, "failed"] += 1
                    self.refusals[str(row.detail.get("code") or "JOB-003")] += 1
                case Kind.JOB_FAILED:
                    self.runs[rule, "attempt_failed"] += 1
                case Kind.ASSOCIATION_REJECTED | Kind.TLS_REFUSED:
                    self.rejections[str(row.detail.get("reason", "unknown"))] += 1
                case _:
                    if row.detail.get("committed", True):
                        proven.add(row.job_id)
        for job_id in proven:
            self._proven(connection, job_id, rules.get(job_id, ""))

    def _finished(self, row: Any, rule: str) -> None:
        self.runs[rule, str(row.detail.get("outcome") or "none")] += 1
        if provider := row.detail.get("provider"):
            self.providers[str(row.detail.get("model", "")), str(provider)] += 1
        if timings := row.detail.get("timings"):
            seconds = sum(float(each) for each in timings.values())
            self._run_seconds.labels(rule).observe(seconds)
            self._ran = (self._ran[0] + 1, self._ran[1] + seconds)

    def _proven(self, connection: Connection, job_id: int, rule: str) -> None:
        """Where the last delivery of a run is proven, its latency is known."""
        rows = connection.execute(
            select(deliveries.c.proof, deliveries.c.proven_at)
            .join(objects, objects.c.sop_instance_uid == deliveries.c.sop_instance_uid)
            .where(objects.c.job_id == job_id)
        ).all()
        if not rows or any(row.proof not in _PROOFS or row.proven_at is None for row in rows):
            return
        last = _last_image(connection, job_id)
        if last is not None:
            self._latency.labels(rule).observe(max(0.0, max(row.proven_at for row in rows) - last))


_PROOFS = frozenset(str(proof) for proof in PROVEN)


def _rules(connection: Connection, job_ids: Sequence[int]) -> dict[int, str]:
    found = connection.execute(select(jobs.c.id, jobs.c.rule).where(jobs.c.id.in_(sorted(set(job_ids)))))
    return {row.id: row.rule for row in found}


def _last_image(connection: Connection, job_id: int) -> float | None:
    """When the last image came that was there when the run was queued; seconds since the epoch."""
    job = connection.execute(select(jobs.c.study_uid, jobs.c.created_at).where(jobs.c.id == job_id)).one_or_none()
    if job is None:
        return None
    taken = (instances.c.study_uid == job.study_uid) & (instances.c.received_at <= job.created_at)
    statement = select(func.max(instances.c.received_at)).where(taken, ~instances.c.ours, instances.c.active == true())
    found = connection.execute(statement).scalar_one()
    return None if found is None else float(found)
