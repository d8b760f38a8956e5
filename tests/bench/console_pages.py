"""Rows `web.*`: pages of the console over a store that has been filled for years."""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

from fastapi.testclient import TestClient

from node.accounts.roles import Role
from node.archive.engine import open_store, upgrade
from node.settings import Settings
from node.site_time import midnight
from tests.bench.figures import Row, Target, percentile_95, row
from tests.bench.stage import FULL, BenchmarkFailed, Stage
from tests.console import signed_in

IMAGES = 10
"""Of each study."""
_LIMIT_MS = 100.0
_PAGES = {
    "web.first_page": "/",
    "web.studies": "/studies",
    "web.studies_needing_somebody": "/studies?needs=1",
    "web.study": "/study/1.2.0",
    "web.audit": "/audit",
}


def pages(stage: Stage) -> list[Row]:
    """Time in the process of the console, from the request to the last byte of the page."""
    count = 100_000 if stage.size is FULL else 500
    folder = stage.folder(stage.disk)
    settings = Settings.model_validate({"node": {"data_dir": str(folder)}, "worklist": {"ris": _worklist()}})
    upgrade(settings)
    (folder / "run").mkdir(exist_ok=True)
    fill(folder / "node.db", count)
    store = open_store(settings)
    try:
        browser = signed_in(settings, store, Role.OPERATOR)
        return [_page(browser, name, path, count, stage) for name, path in _PAGES.items()]
    finally:
        store.close()


def fill(database: Path, count: int) -> None:
    """Studies, images, runs, objects, deliveries, worklist and ledger of a busy node, straight into the tables."""
    now = time.time()
    facts = {"studies": count, "images": IMAGES, "now": now, "every": 60.0, "day": midnight(now)}
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        for statement in _STATEMENTS:
            connection.execute(statement, facts)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _page(browser: TestClient, name: str, path: str, count: int, stage: Stage) -> Row:
    samples, cpu = [], []
    for turn in range(10 * stage.size.repeats + 1):
        started, spent = time.perf_counter(), time.process_time()
        answer = browser.get(path)
        took = (time.perf_counter() - started) * 1000.0
        if answer.status_code != 200:
            raise BenchmarkFailed(f"{path} answered {answer.status_code}")
        # The first reads templates and the database's pages.
        if turn:
            samples.append(took)
            cpu.append((time.process_time() - spent) * 1000.0)
    how = (
        f"{count} studies, {count * IMAGES} instances, SQLite; median of {len(samples)}, "
        f"95 % within {percentile_95(samples):.0f} ms, {statistics.median(cpu):.0f} ms of CPU, "
        f"page of {len(answer.content) // 1024} KiB"
    )
    return row(name, samples, "ms", how=how, target=Target("figure", _LIMIT_MS), filesystem=stage.disk.filesystem)


def _worklist() -> dict[str, object]:
    return {"ae_title": "RIS", "host": "127.0.0.1", "port": 104}


_SERIES = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :studies) "
# Study 0 is the newest. Every 2000th is held; the newest are still coming in.
_STATEMENTS = (
    _SERIES
    + """INSERT INTO studies (study_uid, state, first_at, last_at, evaluated_at, arrival, held_reason, patient_id,
    accession_number) SELECT '1.2.' || i, CASE WHEN i < 20 THEN 'waiting' ELSE 'complete' END,
    :now - i * :every - 60, :now - i * :every, :now - i * :every, '{}',
    CASE WHEN i % 2000 = 1999 THEN 'mixed-patients: two names' END, 'P' || (i % 40000), 'A' || i FROM n""",
    _SERIES
    + """, k(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM k WHERE j + 1 < :images)
    INSERT INTO instances (sop_instance_uid, sop_class_uid, study_uid, series_uid, transfer_syntax_uid, digest, size,
    path, received_at, calling_ae_title, called_ae_title, ours, derived, modality, patient_id, issuer_of_patient_id,
    patient_name, patient_birth_date, accession_number, headers, active)
    SELECT '1.2.' || i || '.1.' || j, '1.2.840.10008.5.1.4.1.1.4', '1.2.' || i, '1.2.' || i || '.1',
    '1.2.840.10008.1.2.1', 'd' || i || '.' || j, 524288, '00/1.2.' || i || '/' || j || '.dcm', :now - i * :every,
    'SCANNER', 'AINODE', 0, 0, 'MR', 'P' || (i % 40000), '', 'Family^Given', '19600101', 'A' || i,
    '{"modality": "MR", "series_description": "ep2d_diff_3scan_trace_p2", "body_part": "HEAD"}', 1 FROM n, k""",
    # One run each, of the newest some waiting; one in 300 was given up.
    _SERIES
    + """INSERT INTO jobs (study_uid, rule, model_id, input_key, run, priority, state, attempts, maximum_attempts,
    not_before, created_at, started_at, ended_at, shadow, specification, result, error_code, message, kind, provisional)
    SELECT '1.2.' || i, 'stroke', 'acute-infarct', 'k', 1, 2,
    CASE WHEN i < 20 THEN 'queued' WHEN i % 300 = 299 THEN 'dead' ELSE 'done' END, 1, 3, 0, :now - i * :every,
    :now - i * :every, :now - i * :every + 5, 0, '{"report_model": null}', '{"outcome": "found", "total_ml": 12.5}',
    CASE WHEN i % 300 = 299 THEN 'JOB-003' END, CASE WHEN i % 300 = 299 THEN 'it went wrong' END, 'run', 0
    FROM n ORDER BY i DESC""",
    """INSERT INTO objects (sop_instance_uid, sop_class_uid, series_uid, study_uid, transfer_syntax_uid, job_id, role,
    profile, path, digest, size, frozen_at)
    SELECT '2.25.' || id || '.' || r.role, '1.2.840.10008.5.1.4.1.1.66.4', '2.25.' || id, study_uid,
    '1.2.840.10008.1.2.1', id, r.role, 'default', 'aa/' || id, 'd', 100000, created_at + 5
    FROM jobs, (SELECT 'seg' AS role UNION SELECT 'text') r WHERE state = 'done'""",
    """INSERT INTO deliveries (sop_instance_uid, destination, state, priority, attempts, not_before, status, created_at,
    sent_at, proven_at, in_doubt, proof, proof_asked, looked, ask_at)
    SELECT sop_instance_uid, 'pacs', CASE WHEN job_id % 1000 = 7 THEN 'dead' ELSE 'committed' END, 2, 1, 0, 0, frozen_at,
    frozen_at + 1, frozen_at + 3, 0, 'commitment', 1, 0, 0 FROM objects""",
    """INSERT INTO ledger (at, kind, study_uid, job_id, sop_instance_uid, detail)
    SELECT received_at, 'instance.received', study_uid, NULL, sop_instance_uid,
    '{"calling_ae_title": "SCANNER", "size": 524288}' FROM instances ORDER BY id DESC""",
    """INSERT INTO ledger (at, kind, study_uid, job_id, detail)
    SELECT created_at, 'job.queued', study_uid, id, '{"rule": "stroke", "model": "acute-infarct"}' FROM jobs
    UNION ALL SELECT ended_at, 'job.finished', study_uid, id, '{"outcome": "found"}' FROM jobs WHERE state = 'done'""",
    """INSERT INTO ledger (at, kind, study_uid, detail)
    SELECT last_at, 'person.looked', NULL, '{"by": "ada", "study": "' || study_uid || '"}' FROM studies
    WHERE study_uid LIKE '%7'""",
    _SERIES
    + """INSERT INTO orders (source, entry_key, study_uid, accession_number, patient_id, modality, starts_at, content,
    first_seen_at, last_seen_at) SELECT 'ris', 'e' || i, '1.3.' || i, 'B' || i, 'P' || i, 'MR', :day + i * 300,
    '{"study_uid": "1.3.' || i || '", "accession_number": "B' || i || '", "modality": "MR"}', :now, :now
    FROM n WHERE i < 250""",
)
