"""A whole node that is watched: canary, frozen processes, full disk, expired certificate, and nothing of a patient said."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from dicom_sr.phantom_study import PatientFacts, write_phantom_study
from models.phantom import make_phantom
from node.archive.engine import open_store
from node.archive.tables import canary_runs, deliveries, instances, jobs, objects, studies
from node.dicom.association import Peer
from node.dicom.storage_scu import send_paths
from node.errors import PeerUnreachable
from node.pulse import beats
from node.settings import load
from tests.node_process import NodeProcess, descendants
from tests.notification_peers import WebhookReceiver
from tests.peers import free_port
from tests.syslog_server import SyslogServer, event_of
from tests.tls_certificates import Authority, Certificate

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(600)]

INTERVAL = 12.0
SECRET = b"monitor-secret"
MARKED = PatientFacts(name="ZQXNAME^MARKED", patient_id="ZQXID4711", birth_date="19310203", accession_number="ZQXACC99")
MARKS = ("ZQXNAME", "ZQXID4711", "19310203", "ZQXACC99")


class DeadMan:
    """Counts the pings it gets."""

    def __init__(self) -> None:
        self.at: list[float] = []
        seen = self.at

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(time.monotonic())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/ping"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Ward:
    """A watched node and those who watch it from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web, self.tls = free_port(), free_port()
        self.receiver = WebhookReceiver(SECRET)
        self._stack = ExitStack()
        self._stack.enter_context(self.receiver.running())
        self.dead_man = DeadMan()
        authority = Authority(folder, "ward")
        self.audit_port = free_port()
        self.audit = SyslogServer(authority.issue("repository"), self.audit_port)
        self._stack.enter_context(self.audit.running())
        self.good, self.expired = authority.issue("node"), authority.issue("old", days=-1)
        self.installed = Certificate(folder / "node.pem", folder / "node.key", authority.ca)
        self.install(self.good)
        (folder / "secret").write_bytes(SECRET)
        (folder / "secret").chmod(0o600)
        # Nobody listens at the clinical destination: every delivery fails.
        self.node = NodeProcess(folder / "node", {"pacs": ("PACS", free_port())}, extra=self._extra(), stat_slot=True)
        self.node.configure()

    def _extra(self) -> str:
        return f"""
[web]
enabled = true
port = {self.web}
[receive.tls]
enabled = true
port = {self.tls}
certificate = "{self.installed.certificate}"
key = "{self.installed.key}"
ca = "{self.installed.ca}"
[canary]
enabled = true
interval_seconds = {INTERVAL}
limit_seconds = {INTERVAL}
port = {free_port()}
[channel.ops]
kind = "webhook"
url = "{self.receiver.url}"
secret_file = "{self.folder / "secret"}"
[monitor]
channels = ["ops"]
silent_seconds = 4.0
certificate_days = 5
dead_man_url = "{self.dead_man.url}"
dead_man_seconds = 1.0
digest_channels = ["ops"]
digest_at = "00:00"
digest_languages = ["en", "ja"]
[audit]
enabled = true
host = "localhost"
port = {self.audit_port}
[audit.tls]
ca = "{self.installed.ca}"
"""

    def install(self, certificate: Certificate) -> None:
        """Put a certificate where the node looks for its own."""
        shutil.copy(certificate.certificate, self.installed.certificate)
        shutil.copy(certificate.key, self.installed.key)

    def start(self) -> None:
        """Start, and wait for the first canary."""
        self.node.start()
        wait(lambda: "the canary is back" in self.node.log(), "the first canary", 60)

    def close(self) -> None:
        self.node.stop()
        self.dead_man.close()
        self._stack.close()

    def messages(self, kind: str, alarm: str, subject: str = "") -> list[dict[str, Any]]:
        """What the channel was told."""
        return [
            each
            for each in self.told()
            if each["kind"] == kind and each.get("alarm") == alarm and each["subject"] == subject
        ]

    def told(self) -> list[dict[str, Any]]:
        """Everything that came."""
        return [json.loads(body) for body in self.receiver.bodies]

    def pid(self, process: str) -> int:
        return next(beat.pid for beat in beats(self.node.data) if beat.process == process)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def wait(condition: Callable[[], Any], what: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    made = Ward(tmp_path_factory.mktemp("ward"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_ready_healthy_and_cleaned(ward: Ward) -> None:
    wait(lambda: ward.get("/readyz")[0] == 200, "readiness", 20)
    assert json.loads(ward.get("/readyz")[1]) == {"ready": True, "problems": []}
    assert ward.get("/healthz") == (200, "ok\n")
    wait(lambda: len(ward.dead_man.at) >= 2, "pings", 10)
    # What flew is gone, the ledger knows of it, no clinical destination has heard.
    store = open_store(load(ward.node.config))
    try:
        wait(lambda: _left(store) == 0, "the canary's rows to go", INTERVAL)
        assert ward.node.cli("ledger", "verify").returncode == 0
    finally:
        store.close()
    wait(lambda: "digest" in {each["kind"] for each in ward.told()}, "the digest", 30)
    (digest,) = [each for each in ward.told() if each["kind"] == "digest"]
    assert digest["rules"][0]["rule"] == "infarct" and digest["studies"] == 0
    assert any("予定 0" in line for line in digest["text"])


def _left(store: Any) -> int:
    """Rows of canaries that came back. One that a busy machine lost stays for some minutes."""
    with store.read() as connection:
        back = select(canary_runs.c.study_uid).where(
            canary_runs.c.state == "back", canary_runs.c.cleaned_at.is_not(None)
        )
        assert connection.execute(select(canary_runs.c.id).where(canary_runs.c.state == "back")).first() is not None
        if connection.execute(back).first() is None:
            return 1
        made = select(objects.c.sop_instance_uid).where(objects.c.study_uid.in_(back))
        found = [
            select(func.count()).where(table.c.study_uid.in_(back)) for table in (studies, instances, jobs, objects)
        ]
        found.append(select(func.count()).where(deliveries.c.sop_instance_uid.in_(made)))
        return sum(int(connection.execute(each).scalar_one()) for each in found)


@pytest.mark.parametrize(
    "process", ["receiver", "scheduler", "dispatcher", "dispatcher-stat", "sender", "notifier", "web", "supervisor"]
)
def test_frozen_process_raises_an_alarm(ward: Ward, process: str) -> None:
    def told(kind: str) -> int:
        return len(ward.messages(kind, "process-silent", process))

    # On a busy machine a start may take longer than the few seconds after which this node raises an alarm.
    wait(lambda: told("alarm") == told("over"), "earlier alarms to be over", 30)
    pid, begun, known = ward.pid(process), time.monotonic(), told("alarm")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait(lambda: told("alarm") > known, f"an alarm about {process}", 2 * INTERVAL)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - begun <= 2 * INTERVAL
    message = ward.messages("alarm", "process-silent", process)[-1]
    assert str(pid) in message["words"] and message["page"] == "docs/alerts.md#process-silent"
    wait(lambda: told("over") > known, "the alarm to be over", 30)


def test_frozen_model_host_loses_the_canary(ward: Ward) -> None:
    wait(
        lambda: len(ward.messages("alarm", "canary-lost")) == len(ward.messages("over", "canary-lost")), "a canary", 90
    )
    hosts = [pid for pid in descendants(ward.pid("supervisor")) if "model_host" in _words(pid)]
    assert len(hosts) == 2
    known = len(ward.messages("alarm", "canary-lost"))
    for pid in hosts:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait(lambda: len(ward.messages("alarm", "canary-lost")) > known, "the canary to be missed", 2 * INTERVAL + 1)
        assert "stage run" in ward.messages("alarm", "canary-lost")[-1]["words"]
    finally:
        for pid in hosts:
            # The lost run is cancelled, and its host killed with it.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    wait(lambda: len(ward.messages("over", "canary-lost")) > known, "the canary to come back", 4 * INTERVAL)


def _words(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_frozen_monitor_misses_its_ping(ward: Ward) -> None:
    wait(lambda: ward.dead_man.at and time.monotonic() - ward.dead_man.at[-1] < 2, "pings", 30)
    pid = ward.pid("monitor")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(1.0)
        last = len(ward.dead_man.at)
        time.sleep(5.0)
        assert len(ward.dead_man.at) <= last + 1
        assert 'ainode_processes_alive{process="monitor"} 0.0' in ward.get("/metrics")[1]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait(lambda: time.monotonic() - ward.dead_man.at[-1] < 2, "pings again", 3 * INTERVAL)


def test_expired_certificate_raises_an_alarm(ward: Ward) -> None:
    subject = "receive.tls.certificate"
    begun = time.monotonic()
    ward.install(ward.expired)
    try:
        wait(lambda: ward.messages("alarm", "certificate-expires", subject), "the alarm", 2 * INTERVAL)
        assert "has expired" in ward.messages("alarm", "certificate-expires", subject)[0]["words"]
        assert time.monotonic() - begun <= 2 * INTERVAL
        assert re.search(r'ainode_certificate_days\{certificate="receive.tls.certificate"\} -', ward.get("/metrics")[1])
    finally:
        ward.install(ward.good)
    wait(lambda: ward.messages("over", "certificate-expires", subject), "the alarm to be over", 15)


def test_nothing_of_a_patient_is_said(ward: Ward, tmp_path: Path) -> None:
    """A marked study goes through a node whose destination is down; others are refused or broken on the way."""
    phantom = make_phantom(7, shape_zyx=(16, 64, 64), spacing_mm_zyx=(7.0, 3.4, 3.4))
    study = write_phantom_study(phantom, tmp_path / "study", seed=77, enhanced=True, patient=MARKED)
    peer = Peer(ae_title="AINODE", host="127.0.0.1", port=ward.node.port, calling_ae_title="MR1")
    assert send_paths(peer, list(study.files)).complete
    _send_broken(peer, study.files[0], tmp_path)
    with pytest.raises(PeerUnreachable):
        stranger = Peer(ae_title="ZQXWRONG", host="127.0.0.1", port=ward.node.port, calling_ae_title="MR1")
        send_paths(stranger, list(study.files))
    ran = "SELECT 1 FROM jobs WHERE state = 'done' AND study_uid = ?"
    wait(lambda: ward.node.rows(ran, study.study_uid), "the run", 60)
    assert any(each["state"] == "done" for each in ward.node.json("jobs"))
    wait(lambda: "breaker" in ward.node.log() or "no connection" in ward.node.log(), "a failed delivery", 30)
    said = {
        "log": ward.node.log(),
        "metrics": ward.get("/metrics")[1],
        "readyz": ward.get("/readyz")[1],
        "status": ward.node.cli("status", "--json").stdout,
        "digest": ward.node.cli("digest").stdout + ward.node.cli("digest", "--json").stdout,
        "doctor": ward.node.cli("doctor").stdout + ward.node.cli("doctor", "--json").stdout,
        "egress": ward.node.cli("egress").stdout,
        "error": ward.node.cli("why", "ZQX-NOT-THERE").stdout,
        "alarms": json.dumps(ward.told()),
        **{f"run/{path.name}": path.read_text("utf-8", "replace") for path in _state_files(ward.node.data / "run")},
    }
    found = {name: [mark for mark in MARKS if mark in text] for name, text in said.items()}
    assert not {name: marks for name, marks in found.items() if marks}
    assert study.study_uid in said["log"], "the study was spoken of at all"
    digest = json.loads(ward.node.cli("digest", "--json").stdout)
    assert [(each["rule"], each["arrived"], each["answered"]) for each in digest["rules"]] == [("infarct", 1, 1)]
    # The repository alone is told the patient's number, because the standard asks for it; never the name, and nothing of
    # the canary, of which nothing is about anybody.
    wait(lambda: MARKED.patient_id.encode() in b"".join(ward.audit.frames), "the transfer in the audit repository", 20)
    events = {event_of(each) for each in ward.audit.messages()}
    assert {("110100", "110120"), ("110104", ""), ("110113", "110126")} <= events
    assert b"ZQXNAME" not in b"".join(ward.audit.frames) and b"CANARY" not in b"".join(ward.audit.frames)


def _send_broken(peer: Peer, file: Path, folder: Path) -> None:
    """The same image once more with another identity, and one whose pixels are cut off."""
    dataset = dcmread(file)
    dataset.PatientName = f"{MARKED.name}^AGAIN"
    dataset.save_as(folder / "again.dcm")
    cut = folder / "cut.dcm"
    cut.write_bytes(file.read_bytes()[:4000])
    send_paths(peer, [folder / "again.dcm", cut])


def _state_files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".json", "") and path.stat().st_size < 10**6
    ]


def _answers(ward: Ward) -> bool:
    try:
        return ward.get("/healthz")[0] == 200
    except OSError:
        return False


def test_full_disk_raises_an_alarm(ward: Ward) -> None:
    """Last, because it starts the node anew: its reserve is raised above what any disk has."""
    ward.node.stop()
    known = len(ward.messages("alarm", "canary-lost"))
    text = ward.node.config.read_text()
    ward.node.config.write_text(text.replace("disk_reserve_bytes = 1000000", f"disk_reserve_bytes = {2**60}"))
    ward.node.start()
    begun = time.monotonic()
    wait(lambda: ward.messages("alarm", "disk-full"), "the alarm", 2 * INTERVAL)
    wait(lambda: len(ward.messages("alarm", "canary-lost")) > known, "the canary to be lost", 3 * INTERVAL)
    assert time.monotonic() - begun <= 3 * INTERVAL
    assert "stage send" in ward.messages("alarm", "canary-lost")[-1]["words"]
    wait(lambda: _answers(ward), "the console", 60)
    code, body = ward.get("/readyz")
    assert code == 503 and "SPO-001" in body
    status = ward.node.cli("status")
    assert "ALARM disk-full: SPO-001" in status.stdout and "docs/alerts.md#disk-full" in status.stdout
    doctor = ward.node.cli("doctor", "--json")
    bad = {each["check"] for each in json.loads(doctor.stdout) if not each["good"]}
    assert doctor.returncode == 1 and {"disk", "alarms"} <= bad
