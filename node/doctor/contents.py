"""Database, files, jobs, deliveries, models: what belongs to the node's own data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from node.archive import approvals, ledger
from node.archive.engine import Dialect
from node.archive.tables import deliveries, instances, jobs, studies
from node.commands.table import opened
from node.delivery.delivery_states import DeliveryState
from node.errors import LedgerBroken, Misconfigured, NotStored, SpoolDamaged
from node.installed_models import registry_of
from node.jobs.queue import JobState
from node.settings import Settings

_STUCK_SECONDS = 3600.0
_SAMPLE = 200
_PARTS = ".part"


def database(settings: Settings) -> str:
    """It answers, has this version's schema, and is whole."""
    with opened(settings) as store, store.read() as connection:
        if store.dialect is Dialect.SQLITE:
            found = str(connection.execute(text("PRAGMA quick_check(1)")).scalar())
            if found != "ok":
                raise Misconfigured(f"SQLite finds damage: {found}; restore a backup (`ainode db restore`)")
        verdict = ledger.verify(connection)
    if not verdict.intact:
        raise LedgerBroken(verdict.problem)
    return f"{store.dialect} is whole and has this version's schema; {verdict.sealed} ledger rows are as sealed"


def files(settings: Settings) -> str:
    """The newest files that the index names are there, and no file lies around that it does not name."""
    spool = settings.data_dir / "spool"
    with opened(settings) as store, store.read() as connection:
        newest = select(instances.c.path).order_by(instances.c.id.desc()).limit(_SAMPLE)
        named = list(connection.execute(newest).scalars())
        missing = [each for each in named if not (spool / each).is_file()]
        orphans = list(_orphans(connection, spool))
    if missing:
        raise SpoolDamaged(f"{len(missing)} of the newest {len(named)} files are missing; is the spool mounted?")
    if orphans:
        raise SpoolDamaged(
            f"{len(orphans)} of the newest {_SAMPLE} study folders are in no index; `ainode db rescan` takes them up"
        )
    return f"the newest {len(named)} files are there, and no folder is unknown to the index"


def _orphans(connection: Connection, spool: Path) -> Iterator[Path]:
    """Folders of studies, of those changed last, that the index does not know; what is arriving is left alone."""
    if not spool.is_dir():
        return
    folders = [
        study for group in spool.iterdir() if len(group.name) == 2 and group.is_dir() for study in group.iterdir()
    ]
    quiet = [each for each in folders if time.time() - each.stat().st_mtime > 60.0]
    newest = sorted(quiet, key=lambda each: each.stat().st_mtime, reverse=True)[:_SAMPLE]
    known = set(
        connection.execute(
            select(instances.c.study_uid).where(instances.c.study_uid.in_([each.name for each in newest])).distinct()
        ).scalars()
    )
    for each in newest:
        if each.name not in known and any(file.suffix != _PARTS for file in each.iterdir()):
            yield each


def work(settings: Settings) -> str:
    """Nothing waits for longer than an hour, nothing is dead, nobody is waited for."""
    before = time.time() - _STUCK_SECONDS
    with opened(settings) as store, store.read() as connection:
        counts = {
            "jobs have waited or run for more than an hour (`ainode jobs`)": _count(
                connection, jobs, jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING]), jobs.c.created_at < before
            ),
            "jobs are dead (`ainode jobs`, then `ainode retry JOB`)": _count(
                connection, jobs, jobs.c.state == JobState.DEAD
            ),
            "deliveries have waited for more than an hour (`ainode deliveries`)": _count(
                connection,
                deliveries,
                deliveries.c.state.in_([DeliveryState.QUEUED, DeliveryState.FAILED, DeliveryState.UNKNOWN]),
                deliveries.c.created_at < before,
            ),
            "deliveries are dead (`ainode deliveries`, then `ainode replay DELIVERY`)": _count(
                connection, deliveries, deliveries.c.state == DeliveryState.DEAD
            ),
            "studies are held (`ainode status`)": _count(connection, studies, studies.c.held_reason.is_not(None)),
        }
    wrong = [f"{count} {words}" for words, count in counts.items() if count]
    if wrong:
        raise Misconfigured("; ".join(wrong))
    return "no job or delivery is stuck or dead, no study is held"


def _count(connection: Connection, table: object, *conditions: object) -> int:
    statement = select(func.count()).select_from(table).where(*conditions)  # type: ignore[arg-type]
    return int(connection.execute(statement).scalar_one())


def models(settings: Settings) -> str:
    """Models that rules name are installed, have their digests, and are approved."""
    wanted = sorted({each for rule in settings.rule for each in (rule.model, rule.report_model) if each})
    unapproved = []
    with opened(settings) as store, store.read() as connection:
        approved = approvals.current(connection)
        registry = registry_of(settings, connection)
    for model_id in wanted:
        model = registry.get(model_id)
        model.verify()
        if settings.models.require_approval and not model.serves_unasked and approved.get(model_id) != model.digest:
            unapproved.append(model_id)
    if unapproved:
        raise NotStored(f"not approved as they are now: {', '.join(unapproved)}; see `ainode models approve`")
    return f"{len(registry.list())} installed; {len(wanted)} named by rules, whole and approved"
