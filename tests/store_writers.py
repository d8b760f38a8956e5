"""Several processes write to one store as fast as they can; afterwards every acknowledged write must be there.

``python -m tests.store_writers --seconds 60`` runs five of them on SQLite in a fresh folder and prints what it found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from node.archive import index, ledger, tables
from node.archive.engine import open_store, upgrade
from node.archive.headers import InstanceHeader
from node.delivery import outbox
from node.errors import StoreUnavailable
from node.jobs import queue
from node.jobs.queue import Priority
from node.jobs.specification import WrittenObject
from node.settings import Settings

WRITERS = 5


@dataclass
class Finding:
    """What came out.

    Attributes
    ----------
    acknowledged : int
        Transactions whose commit returned.
    longest_seconds : float
        Longest transaction, its wait included.
    problems : list of str
        Empty when all is well.
    """

    acknowledged: int = 0
    longest_seconds: float = 0.0
    sealed: int = 0
    problems: list[str] = field(default_factory=list)


def run(settings: Settings, *, seconds: float, writers: int = WRITERS, kill: bool = False) -> Finding:
    """Let the writers write, with a sealer beside them, and check the store.

    Parameters
    ----------
    kill : bool
        End the writers with SIGKILL in the middle of their work instead of asking them to stop.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    logs = [settings.data_dir / f"writer-{number}.log" for number in range(writers)]
    processes = [
        context.Process(target=_write, args=(settings, number, logs[number], stop), name=f"writer-{number}")
        for number in range(writers)
    ]
    sealer = context.Process(target=_seal, args=(settings, stop), name="sealer")
    for process in [*processes, sealer]:
        process.start()
    while not all(log.exists() for log in logs) and all(process.is_alive() for process in processes):
        time.sleep(0.05)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and all(process.is_alive() for process in processes):
        time.sleep(0.1)
    if kill:
        for process in processes:
            if process.pid:
                os.kill(process.pid, signal.SIGKILL)
    stop.set()
    for process in [*processes, sealer]:
        process.join(120)
    finding = _check(settings, logs, killed=kill)
    expected = -signal.SIGKILL if kill else 0
    finding.problems += [f"{p.name} ended with {p.exitcode}" for p in processes if p.exitcode != expected]
    finding.problems += [f"sealer ended with {sealer.exitcode}"] if sealer.exitcode else []
    return finding


def _write(settings: Settings, number: int, log: Path, stop: multiprocessing.synchronize.Event) -> None:
    store = open_store(settings)
    count = 0
    with log.open("w", buffering=1) as acknowledged:
        while not stop.is_set():
            count += 1
            key = f"{number + 1}.{count}"
            started = time.monotonic()
            with store.write() as connection:
                # Every kind of write the node does on an instance's way, in one transaction.
                index.record_instance(
                    connection,
                    1000.0 + count,
                    header=_header(key),
                    path=f"{key}.dcm",
                    digest=key,
                    size=count,
                    association_id=None,
                    calling_ae_title="SCANNER",
                    called_ae_title="AINODE",
                )
                # All of them file the same work, so that they meet on its unique key as well.
                queue.enqueue(
                    connection,
                    1000.0,
                    study_uid="1.2.3",
                    rule="shared",
                    model_id="m",
                    input_key=str(count),
                    priority=Priority.ROUTINE,
                    maximum_attempts=3,
                    specification={},
                    shadow=False,
                )
            acknowledged.write(f"instance {key} {time.monotonic() - started:.4f}\n")
            owner = f"writer-{number}"
            with store.write() as connection:
                job = queue.lease(connection, 1000.0, owner=owner, lease_seconds=1e6)
            if job is None:
                continue
            with store.write() as connection:
                outbox.freeze(
                    connection,
                    1001.0,
                    job_id=job.id,
                    study_uid=job.study_uid,
                    objects=[_object(job.id)],
                    destinations={"default": ["PACS"]},
                    priority=job.priority,
                )
                queue.finish(connection, 1001.0, job.id, owner, result={"by": number})
            acknowledged.write(f"job {job.id} {time.monotonic() - started:.4f}\n")
    store.close()


def _seal(settings: Settings, stop: multiprocessing.synchronize.Event) -> None:
    store = open_store(settings)
    done = False
    while not done:
        done = stop.is_set()
        try:
            with store.write() as connection:
                while ledger.seal(connection, 500) and done:
                    continue
        except StoreUnavailable:
            done = False
        time.sleep(0.05)
    store.close()


def _check(settings: Settings, logs: Sequence[Path], *, killed: bool) -> Finding:
    finding = Finding()
    instances: set[str] = set()
    jobs: list[int] = []
    for line in (line for log in logs for line in log.read_text().splitlines()):
        fields = line.split()
        if len(fields) != 3:  # cut by the kill
            continue
        kind, key, seconds = fields
        finding.acknowledged += 1
        finding.longest_seconds = max(finding.longest_seconds, float(seconds))
        if kind == "instance":
            instances.add(key)
        else:
            jobs.append(int(key))
    store = open_store(settings)
    with store.write() as connection:
        while ledger.seal(connection):
            continue
    with store.read() as connection:
        there = set(connection.execute(select(tables.instances.c.digest)).scalars())
        done = set(connection.execute(select(tables.jobs.c.id).where(tables.jobs.c.state == "done")).scalars())
        frozen = set(connection.execute(select(tables.objects.c.job_id)).scalars())
        verdict = ledger.verify(connection)
        count = select(func.count()).where(tables.ledger.c.kind == "instance.received")
        received = connection.execute(count).scalar_one()
        due = connection.execute(select(func.count()).select_from(tables.deliveries)).scalar_one()
    store.close()
    finding.sealed = verdict.sealed
    checks = {
        f"{len(instances - there)} acknowledged instances are lost": instances <= there,
        f"{len(set(jobs) - done)} acknowledged jobs are lost": set(jobs) <= done,
        "a job ended twice": len(jobs) == len(set(jobs)),
        "jobs and frozen objects differ": done == frozen,
        "objects and deliveries differ": due == len(frozen),
        "instances and ledger rows differ": received == len(there),
        "instances nobody acknowledged": killed or instances == there,
        f"ledger: {verdict.problem}": verdict.intact,
        f"{verdict.unsealed} rows are not sealed": verdict.unsealed == 0,
        "nothing was written": bool(instances) and bool(jobs),
    }
    finding.problems += [problem for problem, fine in checks.items() if not fine]
    return finding


def _header(key: str) -> InstanceHeader:
    return InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"2.999.{key}",
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )


def _object(job_id: int) -> WrittenObject:
    return WrittenObject(
        role="seg",
        profile="default",
        path=Path(f"{job_id}.dcm"),
        sop_instance_uid=f"2.25.{job_id}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        series_uid="2.25.9",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        digest="d" * 64,
        size=1,
    )


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--writers", type=int, default=WRITERS)
    parser.add_argument("--url", default="", help="SQLAlchemy URL of an empty database; default: SQLite")
    parser.add_argument("--kill", action="store_true", help="end the writers with SIGKILL")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ainode-writers-") as folder:
        settings = Settings.model_validate({"node": {"data_dir": folder}, "store": {"url": arguments.url}})
        upgrade(settings)
        finding = run(settings, seconds=arguments.seconds, writers=arguments.writers, kill=arguments.kill)
    print(json.dumps(vars(finding), indent=2))
    return 1 if finding.problems else 0


if __name__ == "__main__":
    sys.exit(main())
