"""What a night brought, rule by rule: expected, arrived, answered, late, refused. Counts only; nothing of a patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from models.results import Outcome
from node.archive.tables import deliveries, jobs, orders, studies
from node.delivery.delivery_states import DeliveryState
from node.jobs.queue import JobKind, JobState
from node.monitor.alarms import standing_alarms
from node.monitor.forecast import NEVER_DAYS, days_to_reserve, history
from node.settings import CANARY, RuleSection, Settings


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """One rule in the span of time.

    Attributes
    ----------
    rule : str
    expected : int
        Entries of the worklist of its modalities that were scheduled; 0 without a worklist.
    arrived : int
        Studies it matched.
    answered : int
        Of these, with a result or a status object that says why there is none.
    late : int
        Answered later than ``monitor.late_seconds`` after the run was queued, or not yet and older than that.
    refused : int
        Not assessed, or the run failed for good.
    shadow : bool
        Its results go nowhere.
    """

    rule: str
    expected: int
    arrived: int
    answered: int
    late: int
    refused: int
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Digest:
    """A span of time of one node. Times are seconds since the epoch.

    Attributes
    ----------
    studies, held, dead_deliveries : int
        Received in the span; held now; deliveries given up, now.
    alarms : tuple of str
        Names of alarms that stand.
    days_to_full : float or None
        None where too little is known.
    """

    node: str
    since: float
    until: float
    rules: tuple[RuleCounts, ...]
    studies: int
    held: int
    dead_deliveries: int
    alarms: tuple[str, ...]
    days_to_full: float | None

    def as_json(self) -> dict[str, Any]:
        """Stable JSON."""
        return asdict(self)


def make_digest(connection: Connection, settings: Settings, since: float, until: float) -> Digest:
    """Count what happened from ``since`` to ``until`` (seconds since the epoch)."""
    rules = [rule for rule in settings.rule if rule.name != CANARY]
    own = select(jobs.c.study_uid).where(jobs.c.rule == CANARY)
    received = studies.c.first_at.between(since, until) & studies.c.study_uid.not_in(own)
    return Digest(
        node=settings.node.name,
        since=since,
        until=until,
        rules=tuple(_counts(connection, settings, rule, since, until) for rule in rules),
        studies=_count(connection, select(func.count()).select_from(studies).where(received)),
        held=_count(connection, select(func.count()).select_from(studies).where(studies.c.held_reason.is_not(None))),
        dead_deliveries=_count(
            connection,
            select(func.count())
            .select_from(deliveries)
            .where(deliveries.c.state == DeliveryState.DEAD, deliveries.c.destination != CANARY),
        ),
        alarms=tuple(each.key.rstrip("/") for each in standing_alarms(settings.data_dir)),
        days_to_full=days_to_reserve(history(settings.data_dir), settings.receive.disk_reserve_bytes),
    )


def _count(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar_one())


def _counts(connection: Connection, settings: Settings, rule: RuleSection, since: float, until: float) -> RuleCounts:
    rows = connection.execute(
        select(jobs.c.study_uid, jobs.c.state, jobs.c.result, jobs.c.created_at, jobs.c.ended_at)
        .where(jobs.c.rule == rule.name, jobs.c.kind == JobKind.RUN, jobs.c.created_at.between(since, until))
        .order_by(jobs.c.id)
    ).all()
    # Of several runs of one study the last one is the answer.
    last = {row.study_uid: row for row in rows if row.state != JobState.CANCELLED}
    ended = [row for row in last.values() if row.state in (JobState.DONE, JobState.FAILED, JobState.DEAD)]
    return RuleCounts(
        rule=rule.name,
        expected=_expected(connection, rule, since, until),
        arrived=len(last),
        answered=len(ended),
        late=sum(
            (row.ended_at if row in ended else until) - row.created_at > settings.monitor.late_seconds
            for row in last.values()
        ),
        refused=sum(_is_refused(row) for row in ended),
        shadow=rule.shadow,
    )


def _is_refused(row: Any) -> bool:
    return bool(row.state != JobState.DONE or (row.result or {}).get("outcome") == Outcome.NOT_ASSESSED)


def _expected(connection: Connection, rule: RuleSection, since: float, until: float) -> int:
    scheduled: Any = orders.c.starts_at.between(since, until)
    if rule.match.modality:
        scheduled &= orders.c.modality.in_(rule.match.modality)
    return _count(connection, select(func.count()).select_from(orders).where(scheduled))


_WORDS = {
    "en": {
        "title": "Digest {since} to {until}",
        "rule": "rule",
        "columns": ("expected", "arrived", "answered", "late", "refused"),
        "shadow": " (shadow)",
        "studies": "Studies received: {0}",
        "held": "Held for a person: {0}",
        "dead": "Deliveries given up: {0}",
        "alarms": "Alarms: {0}",
        "none": "none",
        "days": "Days until the disk is full: {0}",
        "unknown": "not known yet",
        "never": "it does not fill",
    },
    "ja": {
        "title": "日報 {since} ～ {until}",
        "rule": "ルール",
        "columns": ("予定", "到着", "回答済", "遅延", "解析不可"),
        "shadow": "（シャドー）",
        "studies": "受信検査数：{0}",
        "held": "確認待ち（保留）：{0}",
        "dead": "送信断念：{0}",
        "alarms": "アラーム：{0}",
        "none": "なし",
        "days": "ディスク満杯までの日数：{0}",
        "unknown": "未算出",
        "never": "増加なし",
    },
}


def lines(digest: Digest, languages: Sequence[str] = ("en",)) -> list[str]:
    """The digest for people; the first line is its title. One language after the other."""
    found: list[str] = []
    for language in languages:
        found += [*([""] if found else []), *_lines(digest, _WORDS[language])]
    return found


def _lines(digest: Digest, words: dict[str, Any]) -> list[str]:
    def moment(seconds: float) -> str:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")

    days = digest.days_to_full
    known = words["unknown"] if days is None else words["never"] if days >= NEVER_DAYS else f"{days:.1f}"
    table = [
        f"{each.rule}{words['shadow'] if each.shadow else ''}: "
        + ", ".join(
            f"{name} {count}"
            for name, count in zip(
                words["columns"],
                (each.expected, each.arrived, each.answered, each.late, each.refused),
                strict=True,
            )
        )
        for each in digest.rules
    ]
    return [
        words["title"].format(since=moment(digest.since), until=moment(digest.until)),
        *table,
        words["studies"].format(digest.studies),
        words["held"].format(digest.held),
        words["dead"].format(digest.dead_deliveries),
        words["days"].format(known),
        words["alarms"].format(", ".join(digest.alarms) or words["none"]),
    ]
