"""Parts of the monitor: forecast, alarms, processes, certificates, digest, and what is called from here."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from node.archive.engine import open_store
from node.dicom.certificate_dates import own_end, peer_end
from node.digest import Digest, RuleCounts, lines
from node.egress import egress, ruleset
from node.monitor.alarms import Alarms, standing_alarms
from node.monitor.certificates import CertificateDate, certificate_conditions
from node.monitor.condition import Alarm, Condition
from node.monitor.digest_clock import is_due
from node.monitor.forecast import NEVER_DAYS, Sample, days_to_reserve, history, take_sample
from node.monitor.processes import ProcessWatch
from node.pulse import Pulse, beats
from node.readiness import database_problem
from node.settings import Settings, load
from tests.migrated import upgrade
from tests.peers import require
from tests.tls_certificates import Authority

DAY = 86400.0


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        ([1000, 900, 800, 700], 5.0),  # 100 a day, 500 above the reserve
        ([1000, 1000, 1000], NEVER_DAYS),
        ([1000, 1100, 1200], NEVER_DAYS),
        ([1000, 700, 100], 0.0),
        ([1000, 900], None),
    ],
)
def test_forecast(free: list[int], expected: float | None) -> None:
    samples = [Sample(day * DAY, each) for day, each in enumerate(free)]
    found = days_to_reserve(samples, 200)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_forecast_needs_some_hours() -> None:
    assert days_to_reserve([Sample(each, 1000 - each) for each in range(100)], 0) is None


def test_history_is_kept_for_two_weeks(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    old, now = time.time() - 15 * DAY, time.time()
    (tmp_path / "run" / "disk-history.json").write_text(json.dumps([[old, 1], [now - DAY, 2]]))
    take_sample(tmp_path)
    assert [each.free_bytes for each in history(tmp_path)][:-1] == [2]
    (tmp_path / "run" / "disk-history.json").write_text("damaged")
    assert history(tmp_path) == []


def test_alarms_are_raised_repeated_and_ended(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    wrong = [Condition(Alarm.DISK_FULL, "", "no room")]

    def alarms() -> Alarms:
        return Alarms(tmp_path, ["mail", "hook"], repeat_seconds=100)

    found = alarms()
    found.update(wrong, 0.0)
    assert [channel for _, channel in found.due()] == ["mail", "hook"]
    for standing, channel in found.due():
        found.was_told(standing, channel, 0.0)
    # A restart neither repeats nor forgets; after repeat_seconds it is said again.
    again = alarms()
    again.update(wrong, 50.0)
    assert again.due() == [] and [each.alarm for each in standing_alarms(tmp_path)] == [Alarm.DISK_FULL]
    again.update(wrong, 101.0)
    assert [channel for _, channel in again.due()] == ["mail", "hook"]
    again.update([], 102.0)
    assert {standing.message("n")["kind"] for standing, _ in again.due()} == {"over"}
    assert standing_alarms(tmp_path) == []
    for standing, channel in again.due():
        again.was_told(standing, channel, 103.0)
    again.update([], 104.0)
    assert again.due() == []


def test_who_has_not_heard_is_not_told_that_it_is_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = Alarms(tmp_path, ["mail"], repeat_seconds=100)
    found.update([Condition(Alarm.DISK_FULL, "", "no room")], 0.0)
    found.update([], 1.0)
    assert found.due() == []


def _settings(folder: Path, **sections: object) -> Settings:
    (folder / "run").mkdir(parents=True, exist_ok=True)
    return Settings.model_validate({"node": {"data_dir": str(folder)}, **sections})


def test_silent_processes_are_named(tmp_path: Path) -> None:
    now = [1000.0]
    settings = _settings(tmp_path, monitor={"silent_seconds": 10.0}, jobs={"stat_slot": False})
    watch = ProcessWatch(settings, clock=lambda: now[0])
    for name in ("receiver", "scheduler", "dispatcher"):
        Pulse(tmp_path, name).beat()
    assert watch.look() == []
    now[0] += 11
    assert [each.subject for each in watch.look()] == ["sender"]
    assert "not running" in watch.look()[0].words


def test_pulse_needs_no_room_and_no_wall_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    pulse = Pulse(tmp_path, "sender")
    pulse.beat(breakers={"pacs": False})
    (beat,) = beats(tmp_path)
    assert beat.process == "sender" and beat.age_seconds < 1.0 and beat.facts == {"breakers": {"pacs": False}}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    pulse.beat(breakers={"pacs": True})
    (beat,) = beats(tmp_path)
    assert beat.age_seconds < 1.0 and beat.facts == {"breakers": {"pacs": False}}
    pulse.end()
    assert beats(tmp_path) == []


def test_certificates_are_read_expired_or_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    good, old = authority.issue("good", days=20), authority.issue("old", days=-1)
    rsa = authority.issue("rsa", days=400, rsa=True)
    for certificate, days in ((good, 20), (old, -1), (rsa, 400)):
        ends = own_end(certificate.certificate)
        assert abs(ends - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=2)
        told = subprocess.run(
            [require("openssl"), "x509", "-in", str(certificate.certificate), "-noout", "-enddate"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert f"{ends:%H:%M:%S %Y}" in told
    dates = [
        CertificateDate("a", time.time() + 3 * DAY),
        CertificateDate("b", time.time() + 30 * DAY),
        CertificateDate("c", time.time() - DAY),
        CertificateDate("d", None, "cannot be read"),
    ]
    found = certificate_conditions(dates, 21)
    assert [each.subject for each in found] == ["a", "c", "d"]
    assert "has expired" in found[1].words
    assert peer_end("127.0.0.1", 1, None) is None


def test_digest_in_two_languages() -> None:
    digest = Digest("n", 0.0, DAY, (RuleCounts("stroke", 5, 4, 3, 1, 2, shadow=True),), 9, 1, 0, (), 12.34)
    text = "\n".join(lines(digest, ["en", "ja"]))
    assert "stroke (shadow): expected 5, arrived 4, answered 3, late 1, refused 2" in text
    assert "予定 5, 到着 4, 回答済 3, 遅延 1, 解析不可 2" in text
    assert "disk is full: 12.3" in text and "満杯までの日数：12.3" in text


@pytest.mark.parametrize(
    ("moment", "sent", "due"),
    [
        ("06:59", "2026-01-01", False),
        ("07:00", "2026-01-01", True),
        ("07:01", "2026-01-02", False),
        ("23:00", "", True),
    ],
)
def test_digest_is_due_once_a_day(moment: str, sent: str, due: bool) -> None:
    assert is_due(datetime.fromisoformat(f"2026-01-02T{moment}"), "07:00", sent) is due


def test_unwritable_database_is_noticed(tmp_path: Path) -> None:
    settings = _settings(tmp_path, store={"busy_timeout_seconds": 0.2})
    upgrade(settings)
    store = open_store(settings)
    try:
        assert database_problem(store) is None
        other = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert (database_problem(store) or "").startswith("STO-001")
        other.execute("ROLLBACK")
        assert database_problem(store) is None
    finally:
        store.close()


PEERS = """
[node]
data_dir = "data"
[store]
url = "postgresql+psycopg://ainode@db.hospital/ainode?sslmode=verify-full"
[destination.pacs]
ae_title = "PACS"
host = "10.1.2.3"
port = 11112
[destination.pacs.tls]
[destination.cloud]
url = "https://pacs.test/dicom-web"
[destination.cloud.oauth]
token_url = "https://id.test:8443/token"
client_id = "a"
client_secret_file = "s"
[worklist.ris]
ae_title = "RIS"
host = "2001:db8::5"
port = 104
[web_source.old]
url = "https://old.test:8443/dicom-web"
[workitems.ris]
ae_title = "TASKMGR"
host = "10.1.2.4"
port = 11113
station_names = ["AINODE"]
[workitems.web]
url = "https://tasks.test/dicom-web"
station_names = ["AINODE"]
[remote]
enabled = true
hosts = ["models.test"]
[remote.endpoint.chat]
url = "https://models.test/v1"
model = "m"
[web]
enabled = true
public_url = "https://node.test"
[web.oidc]
issuer = "https://sign-on.test"
client_id = "ainode"
operator = ["radiology"]
[evidence]
answer_commitment = true
commitment_archive = "pacs"
[[evidence.requestor]]
ae_title = "MR1"
host = "10.1.2.7"
port = 104
[channel.mail]
kind = "email"
host = "mail.test"
sender = "a@b.test"
recipients = ["c@d.test"]
[monitor]
dead_man_url = "http://watch.test/ping"
[canary]
enabled = true
[audit]
enabled = true
host = "10.1.2.9"
transport = "udp"
port = 514
"""


def test_every_peer_is_listed(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(PEERS)
    peers = {each.name: each for each in egress(load(tmp_path / "node.toml"))}
    assert {(each.host, each.port, each.encrypted, each.patient_data) for each in peers.values()} == {
        ("10.1.2.3", 11112, True, True),
        ("pacs.test", 443, True, True),
        ("id.test", 8443, True, False),
        ("2001:db8::5", 104, False, True),
        ("10.1.2.7", 104, False, True),
        ("old.test", 8443, True, True),
        ("10.1.2.4", 11113, False, True),
        ("tasks.test", 443, True, True),
        ("models.test", 443, True, False),
        ("sign-on.test", 443, True, False),
        ("mail.test", 587, True, False),
        ("10.1.2.9", 514, False, True),
        ("watch.test", 80, False, False),
        ("db.hospital", 5432, True, True),
    }
    assert peers["audit"].protocol == "udp"


# What the configuration knows of addresses: this node's own, and those that `egress` goes through.
OWN = {"canary.host", "hl7.host", "notifications.public_url", "receive.host", "web.host", "web.public_url"}
CALLED = {
    "audit.host",
    "channel.host",
    "channel.oauth.token_url",
    "channel.url",
    "destination.availability.host",
    "destination.host",
    "destination.oauth.token_url",
    "destination.url",
    "evidence.requestor.host",
    "monitor.dead_man_url",
    "remote.endpoint.url",
    "store.url",
    "web.oidc.issuer",
    "web_source.oauth.token_url",
    "web_source.url",
    "workitems.host",
    "workitems.oauth.token_url",
    "workitems.url",
    "worklist.host",
}


def test_no_address_of_the_configuration_is_forgotten() -> None:
    """Who adds a section that calls somebody adds it to `egress`, to the list above and to the example."""
    assert set(_addresses(Settings)) == OWN | CALLED


def _addresses(section: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if name in ("host", "url", "issuer") or name.endswith("_url"):
            yield path + name
        for inner in _sections(field.annotation):
            yield from _addresses(inner, f"{path}{name}.")


def _sections(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for each in get_args(kind):
        yield from _sections(each)


@pytest.mark.peer
def test_nft_takes_the_ruleset(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(PEERS)
    peers = egress(load(tmp_path / "node.toml"))
    names = {each.host: ["192.0.2.7", "2001:db8::7"] for each in peers if each.host.endswith((".test", ".hospital"))}
    text = ruleset(peers, user="root", resolved=names)
    assert "ip daddr 10.1.2.3 tcp dport 11112 accept" in text and "ip6 daddr 2001:db8::5 tcp dport 104 accept" in text
    assert "ip daddr 10.1.2.9 udp dport 514 accept" in text and text.count("reject") == 1
    (tmp_path / "rules.nft").write_text(text)
    done = subprocess.run(
        [require("nft"), "-c", "-f", str(tmp_path / "rules.nft")], capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr or "cache initialization failed" in done.stderr:
        pytest.skip("nft needs the capability to look at the kernel's tables")
    assert done.returncode == 0, done.stderr
