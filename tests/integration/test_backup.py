"""Copies of a working node, put back: every image acknowledged is there afterwards, no result comes twice."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydicom import dcmread
from sqlalchemy import inspect, text

from dicom_sr.phantom_study import write_phantom_study
from models.phantom import make_phantom
from node.archive import migration, postgresql_dump, tables
from node.archive.backup import MANIFEST, back_up, put_back, without_password
from node.archive.engine import downgrade, open_store, store_url, upgrade
from node.archive.rescan import rescan
from node.archive.spool import Spool
from node.dicom.association import Peer
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.errors import BackupUnusable, ConfigError, StoreSchemaMismatch
from node.folder_lock import one_process
from node.settings import Settings
from tests.archive_peers import dcmqrscp_archive
from tests.network import instance, node_settings, running_node, wait_for
from tests.node_process import NodeProcess
from tests.peers import free_port, require

pytest_plugins = ["tests.store_fixtures"]


def indexed(settings: Settings) -> set[str]:
    store = open_store(settings)
    try:
        with store.read() as connection:
            return set(connection.execute(tables.instances.select()).scalars(1))
    finally:
        store.close()


def test_a_copy_made_while_images_flow_in(tmp_path: Path) -> None:
    with running_node(tmp_path / "node") as node:
        enough, sent = threading.Event(), list[Path]()

        def flow() -> None:
            while not enough.is_set():
                batch = [instance(tmp_path / "i", len(sent) + each, study=f"s{len(sent)}") for each in range(4)]
                assert send_paths(node.peer(), batch).complete
                sent.extend(batch)

        thread = threading.Thread(target=flow)
        thread.start()
        copies = []
        for number in range(3):
            wait_for(lambda goal=8 * (number + 1): len(sent) >= goal, "images")
            copies.append(back_up(node.settings, tmp_path / f"copy-{number}", files=number == 2))
        enough.set()
        thread.join(30)
    for number, made in enumerate(copies):
        folder = tmp_path / f"copy-{number}"
        listed = {line.partition("\t")[0] for line in (folder / "spool.txt").read_text().splitlines()}
        with closing(sqlite3.connect(folder / "node.db")) as copy:
            rows = [path for (path,) in copy.execute("SELECT path FROM instances")]
        assert len(rows) >= 8 * (number + 1) and set(rows) <= listed
        assert made.trees["spool"]["files"] == len(listed)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert "P-s0" not in (folder / "spool.txt").read_text() + (folder / MANIFEST).read_text()
    settings = node.settings
    # The oldest copy, and the spool as it is.
    restored = put_back(settings, tmp_path / "copy-0")
    assert restored.missing == {"spool": 0, "outbox": 0}
    upgrade(settings)
    assert len(indexed(settings)) < len(sent)
    store = open_store(settings)
    rescan(store, Spool(settings.data_dir / "spool", 0))
    store.close()
    assert len(indexed(settings)) == len(sent)
    # Another machine, with nothing but the copy that has the files.
    elsewhere = node_settings(tmp_path / "elsewhere")
    assert put_back(elsewhere, tmp_path / "copy-2").missing == {"spool": 0, "outbox": 0}
    assert {str(path.relative_to(tmp_path / "copy-2")) for path in (tmp_path / "copy-2" / "spool").rglob("*.dcm")} == {
        str(path.relative_to(elsewhere.data_dir)) for path in (elsewhere.data_dir / "spool").rglob("*.dcm")
    }


def test_copies_that_are_refused_change_nothing(tmp_path: Path) -> None:
    settings = node_settings(tmp_path / "node")
    with pytest.raises(BackupUnusable, match="no database"):
        back_up(settings, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    upgrade(settings)
    back_up(settings, tmp_path / "copy")
    before = (settings.data_dir / "node.db").read_bytes()
    with pytest.raises(BackupUnusable, match="name a new folder"):
        back_up(settings, tmp_path / "copy")
    with pytest.raises(BackupUnusable, match="no copy made by"):
        put_back(settings, tmp_path)
    with one_process(settings.data_dir), pytest.raises(ConfigError, match="is running"):
        put_back(settings, tmp_path / "copy")

    manifest = tmp_path / "copy" / MANIFEST
    content = manifest.read_text()
    manifest.write_text(json.dumps(json.loads(content) | {"revision": "9999", "version": "9.9"}))
    with pytest.raises(StoreSchemaMismatch, match=r"revision 9999 of version 9\.9"):
        put_back(settings, tmp_path / "copy")
    manifest.write_text(json.dumps(json.loads(content) | {"dialect": "postgresql"}))
    with pytest.raises(BackupUnusable, match="another kind"):
        put_back(settings, tmp_path / "copy")
    manifest.write_text(content)
    database = tmp_path / "copy" / "node.db"
    database.write_bytes(database.read_bytes()[:-1] + b"x")
    with pytest.raises(BackupUnusable, match=r"node\.db is not what was written"):
        put_back(settings, tmp_path / "copy")
    assert (settings.data_dir / "node.db").read_bytes() == before
    assert not list(settings.data_dir.glob("*.before-restore"))


def test_configuration_without_secrets_unless_asked(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "node", {})
    node.configure()
    (node.folder / "passcode").write_text("open sesame")
    assert node.cli("db", "upgrade").returncode == 0
    assert node.cli("db", "backup", str(tmp_path / "plain")).returncode == 0
    found = {path.name for path in (tmp_path / "plain").rglob("*") if path.is_file()}
    assert {"node.toml", "routing.toml"} <= found and not {"passcode", "secret.key"} & found
    assert node.cli("db", "backup", "--secrets", str(tmp_path / "whole")).returncode == 0
    assert (tmp_path / "whole" / "config" / "passcode").read_text() == "open sesame"


@pytest.mark.parametrize(
    ("line", "without"),
    [
        (
            'url = "postgresql+psycopg://ainode:hunter2@db/ainode"',
            'url = "postgresql+psycopg://ainode:REMOVED@db/ainode"',
        ),
        ('url = "postgresql+psycopg://ainode@/ainode"', 'url = "postgresql+psycopg://ainode@/ainode"'),
        ('url = "https://archive.hospital:8443/dicom-web"', 'url = "https://archive.hospital:8443/dicom-web"'),
    ],
)
def test_no_password_in_a_copy(line: str, without: str) -> None:
    assert without_password(line) == without


def test_the_newest_migration_can_be_taken_back() -> None:
    """Else there is no rollback after an upgrade: a migration only adds, drops what it added, and says ``reversible``."""
    assert migration.lowest_reachable() < tables.REVISION


def test_a_downgrade_and_an_upgrade_lose_nothing_the_earlier_version_knows(empty_settings: Settings) -> None:
    upgrade(empty_settings)
    earlier = migration.lowest_reachable()
    store = open_store(empty_settings)
    with store.write() as connection:
        connection.execute(tables.ledger.insert().values(at=1.0, kind="test", detail={}))
    store.close()
    taken_back = downgrade(empty_settings, earlier)
    assert all(each > earlier for each in taken_back)
    assert downgrade(empty_settings, earlier) == []
    if taken_back:
        with pytest.raises(StoreSchemaMismatch):
            open_store(empty_settings)
    assert upgrade(empty_settings) == tables.REVISION
    store = open_store(empty_settings)
    try:
        with store.read() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, tables.metadata) == []
            assert connection.execute(tables.ledger.select()).first() is not None
    finally:
        store.close()
    for nowhere, words in (("0001", "cannot be taken back"), ("4711", "no revision 4711")):
        with pytest.raises(StoreSchemaMismatch, match=words):
            downgrade(empty_settings, nowhere)


@pytest.mark.peer
def test_postgresql_is_copied_by_its_own_tools(empty_settings: Settings, tmp_path: Path) -> None:
    if not empty_settings.store.url:
        pytest.skip("SQLite")
    require("pg_dump")
    upgrade(empty_settings)
    store = open_store(empty_settings)
    with store.write() as connection:
        connection.execute(tables.ledger.insert().values(at=1.0, kind="before", detail={}))
    made = back_up(empty_settings, tmp_path / "copy")
    assert (made.dialect, made.revision) == ("postgresql", tables.REVISION)
    with store.write() as connection:
        connection.execute(tables.ledger.insert().values(at=2.0, kind="after", detail={}))
        connection.execute(text("CREATE TABLE of_a_later_version (id integer)"))
    store.close()
    put_back(empty_settings, tmp_path / "copy")
    store = open_store(empty_settings)
    with store.read() as connection:
        assert [row.kind for row in connection.execute(tables.ledger.select())] == ["before"]
        assert not inspect(connection).has_table("of_a_later_version")
    store.close()
    kept = empty_settings.data_dir / "node.pgdump.before-restore"
    assert kept.is_file()
    # A dump that is none changes nothing.
    dump = tmp_path / "copy" / "node.pgdump"
    dump.write_bytes(b"PGDMP, or not")
    with pytest.raises(BackupUnusable, match="pg_restore"):
        postgresql_dump.restore(store_url(empty_settings), dump, kept)
    store = open_store(empty_settings)
    store.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_day_old_copy_then_reconcile_is_the_same(tmp_path: Path) -> None:
    """Study 1 before the copy, 2 after it; 3 went to the archive while the node was down."""
    pacs = TestPacs(tmp_path / "pacs", ae_title="PACS")
    node_port = free_port()
    with pacs.running() as (_, port), dcmqrscp_archive(tmp_path, node_port) as archive_port:
        node = NodeProcess(tmp_path / "node", {"pacs": ("PACS", port)}, port=node_port)
        node.extra = (
            f'[destination.archive]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {archive_port}\n'
            '[profile.default]\ntext_documents = "shown_as_draft"\nmaximum_series = 3\n'
        )
        node.configure()
        peer = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
        archive = Peer(ae_title="ARCHIVE", host="127.0.0.1", port=archive_port, calling_ae_title="MODALITY")

        def study(seed: int) -> list[Path]:
            volume = make_phantom(seed, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
            return list(write_phantom_study(volume, tmp_path / str(seed), seed=seed).files)

        images = {seed: study(seed) for seed in (91, 92, 93)}
        for files in images.values():
            assert send_paths(archive, files).complete
        node.start()
        try:
            assert send_paths(peer, images[91]).complete
            _wait_for_results(node, 3)
            assert node.cli("db", "backup", str(tmp_path / "copy")).returncode == 0
            assert send_paths(peer, images[92]).complete
            _wait_for_results(node, 6)
            results = set(pacs.objects)
            assert len(results) == 6
            node.stop()
            done = node.cli("db", "restore", str(tmp_path / "copy"))
            assert done.returncode == 0 and "ainode reconcile --since" in done.stdout, done.stderr
            assert node.cli("db", "upgrade").returncode == 0
            assert f"{len(images[92])} were not indexed" in node.cli("db", "rescan").stdout
            node.start()
            _wait_for_results(node, 6)
            # Again the same objects, not others beside them.
            assert set(pacs.objects) == results and pacs.conflicts == []
            since = datetime.strptime(dcmread(images[93][0]).StudyDate, "%Y%m%d").strftime("%Y-%m-%d")
            told = node.cli("reconcile", "--since", since, "--destination", "archive", "--fetch", "--json")
            assert told.returncode == 0, told.stderr
            (finding,) = json.loads(told.stdout)["findings"]
            assert finding["finding"] == "missing"
            _wait_for_results(node, 9)
            assert len(pacs.objects) == 9 and pacs.conflicts == []
            assert [each["run"] for each in node.json("jobs")] == [1, 1, 1]
            assert node.cli("ledger", "verify").returncode == 0
        finally:
            node.stop()


def _wait_for_results(node: NodeProcess, count: int) -> None:
    wait_for(lambda: node.delivery_states() == ["committed"] * count, f"{count} results", seconds=90)
    assert [each["state"] for each in node.json("deliveries")] == ["committed"] * count
