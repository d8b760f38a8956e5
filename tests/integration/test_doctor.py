"""`ainode doctor`: each examination finds what it is for, over a store of either kind."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from models.errors import NodeError
from node.archive import index, ledger
from node.archive.engine import Store
from node.archive.headers import InstanceHeader
from node.archive.spool import study_folder
from node.archive.tables import jobs
from node.archive.tables import ledger as rows
from node.commands.doctor import PAGES, examinations
from node.doctor import contents, installation, surroundings
from node.errors import LedgerBroken, Misconfigured, NodeNotRunning, PeerUnreachable, SpoolDamaged, SpoolFull
from node.monitor.alarms import Alarms
from node.monitor.condition import Alarm, Condition
from node.settings import Settings
from tests.peers import free_port

pytest_plugins = ["tests.store_fixtures"]


def _with(settings: Settings, **sections: Any) -> Settings:
    """The same installation with other sections."""
    merged = {
        "node": {"data_dir": str(settings.data_dir), **sections.pop("node", {})},
        "store": settings.store.model_dump(),
        **sections,
    }
    return Settings.model_validate(merged)


def _image(store: Store, study_uid: str) -> None:
    header = InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"{study_uid}.1",
        study_uid=study_uid,
        series_uid=f"{study_uid}.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MR",
        patient_name="SECRET^NAME",
        patient_id="SECRETID",
        patient_birth_date="",
        accession_number="SECRETACC",
        routing={},
    )
    with store.write() as connection:
        index.record_instance(
            connection,
            time.time(),
            header=header,
            path=f"{study_folder(study_uid)}/x.dcm",
            digest="d",
            size=1,
            association_id=None,
            calling_ae_title="CT1",
            called_ae_title="AINODE",
        )


def _file(settings: Settings, study_uid: str) -> Path:
    folder = settings.data_dir / "spool" / study_folder(study_uid)
    folder.mkdir(parents=True)
    (folder / "x.dcm").write_bytes(b"x")
    old = time.time() - 600
    os.utime(folder, (old, old))
    return folder


def test_every_examination_has_a_page() -> None:
    assert set(examinations()) == set(PAGES)


def test_files(store_settings: Settings, store: Store) -> None:
    assert "0 files" in contents.files(store_settings)
    _image(store, "1.2.3")
    with pytest.raises(SpoolDamaged, match="1 of the newest 1 files are missing"):
        contents.files(store_settings)
    _file(store_settings, "1.2.3")
    assert "1 files are there" in contents.files(store_settings)
    orphan = _file(store_settings, "1.2.4")
    with pytest.raises(SpoolDamaged, match="in no index"):
        contents.files(store_settings)
    # What is just arriving is nobody's orphan.
    os.utime(orphan)
    assert contents.files(store_settings)


def test_database_and_ledger(store_settings: Settings, store: Store) -> None:
    _image(store, "1.2.3")
    with store.write() as connection:
        ledger.seal(connection)
    assert "1 ledger rows are as sealed" in contents.database(store_settings)
    with store.write() as connection:
        connection.execute(update(rows).values(kind="instance.duplicate"))
    with pytest.raises(LedgerBroken):
        contents.database(store_settings)


def test_stuck_work(store_settings: Settings, store: Store) -> None:
    assert contents.work(store_settings)
    base = {"study_uid": "1", "rule": "r", "model_id": "m", "priority": 2, "maximum_attempts": 1, "specification": {}}
    with store.write() as connection:
        connection.execute(insert(jobs).values(**base, input_key="a", state="dead", created_at=time.time()))
        connection.execute(insert(jobs).values(**base, input_key="b", state="queued", created_at=time.time() - 7200))
    with pytest.raises(Misconfigured, match=r"1 jobs have waited or run .*1 jobs are dead"):
        contents.work(store_settings)


def test_models(store_settings: Settings, store: Store, tmp_path: Path) -> None:
    good = _with(store_settings, rule=[{"name": "r", "model": "infarct-adc-baseline"}])
    assert "1 named by rules, whole and approved" in contents.models(good)
    with pytest.raises(NodeError, match="no-such-model"):
        contents.models(_with(store_settings, rule=[{"name": "r", "model": "no-such-model"}]))
    folder = tmp_path / "models"
    shutil.copytree(Path(__file__).resolve().parents[2] / "models/catalogue/infarct-adc-baseline", folder / "own")
    card = folder / "own" / "model.toml"
    card.write_text(card.read_text().replace('id = "infarct-adc-baseline"', 'id = "own"', 1))
    own = {"models": {"folders": [str(folder)]}, "rule": [{"name": "r", "model": "own"}]}
    with pytest.raises(NodeError, match="not approved as they are now: own"):
        contents.models(_with(store_settings, **own))
    with (folder / "own" / "main.onnx").open("ab") as graph:
        graph.write(b"changed")
    with pytest.raises(NodeError, match="MOD-002"):
        contents.models(_with(store_settings, **own))


def test_permissions(store_settings: Settings, store: Store) -> None:
    store_settings.data_dir.mkdir(parents=True, exist_ok=True)
    store_settings.data_dir.chmod(0o700)
    secret = store_settings.data_dir / "secret.key"
    secret.write_bytes(b"x")
    secret.chmod(0o600)
    (store_settings.data_dir / "node.db").touch()
    (store_settings.data_dir / "node.db").chmod(0o600)
    assert installation.permissions(store_settings)
    secret.chmod(0o644)
    with pytest.raises(Misconfigured, match=r"secret\.key may be read by others"):
        installation.permissions(store_settings)


def test_disk_and_time_zone(store_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    store_settings.data_dir.mkdir(parents=True, exist_ok=True)
    assert "MiB free" in installation.disk(_with(store_settings, receive={"disk_reserve_bytes": 0}))
    with pytest.raises(SpoolFull):
        installation.disk(_with(store_settings, receive={"disk_reserve_bytes": 2**62}))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        with pytest.raises(Misconfigured, match="time_zone is empty"):
            installation.time_zone(store_settings)
        assert "Asia/Tokyo" in installation.time_zone(_with(store_settings, node={"time_zone": "Asia/Tokyo"}))
    finally:
        monkeypatch.undo()
        time.tzset()


class _Skewed(BaseHTTPRequestHandler):
    ahead = 0.0

    def do_HEAD(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", self.date_time_string(int(time.time() + self.ahead)))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Skewed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ahead", [0.0, 600.0, -600.0])
def test_clocks(
    store_settings: Settings, store: Store, web: str, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Skewed, "ahead", ahead)
    settings = _with(store_settings, destination={"cloud": {"url": web}})
    if ahead:
        with pytest.raises(Misconfigured, match=r"destination\.cloud by .*(600|599|601)"):
            surroundings.clock(settings)
    else:
        assert "destination.cloud" in surroundings.clock(settings)


def test_node_peers_and_alarms(store_settings: Settings, store: Store, web: str) -> None:
    with pytest.raises(NodeNotRunning):
        surroundings.node(store_settings)
    assert "can be connected to" in surroundings.peers(_with(store_settings, destination={"cloud": {"url": web}}))
    dead = {"pacs": {"ae_title": "P", "host": "127.0.0.1", "port": free_port()}}
    with pytest.raises(PeerUnreachable, match=r"destination\.pacs"):
        surroundings.peers(_with(store_settings, destination=dead))
    (store_settings.data_dir / "run").mkdir(exist_ok=True)
    assert "none" in surroundings.alarms(store_settings) or "not configured" in surroundings.alarms(store_settings)
    Alarms(store_settings.data_dir, [], repeat_seconds=9).update([Condition(Alarm.CANARY_LOST, "", "lost")], 1.0)
    with pytest.raises(Misconfigured, match=r"docs/alerts\.md#canary-lost"):
        surroundings.alarms(store_settings)
