"""Every channel against a real socket that misbehaves: told once, or dead-lettered with the reason."""

from __future__ import annotations

import email
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hl7apy.parser import parse_message
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import InstanceAvailabilityNotification  # type: ignore[attr-defined]

from node.archive import tables
from node.archive.engine import Store, open_store
from node.notify.acknowledgement import Acknowledgement
from node.notify.notifier import Notifier
from node.settings import Settings, load
from node.web.app import create_app
from tests.migrated import upgrade
from tests.network import file_delivery, instance, wait_for
from tests.node_process import ROOT
from tests.notification_peers import FhirServer, MailServer, MllpListener, WebhookReceiver
from tests.notification_scene import (
    ACCESSION,
    PATIENT_ID,
    SECRETS,
    end_run,
    kinds,
    receive,
    rows,
    running_notifier,
    summary,
)
from tests.peers import free_port
from tests.tls_certificates import Authority

FAST = {"retry_seconds": 0.02, "retry_ceiling_seconds": 0.1, "response_timeout_seconds": 0.5, "maximum_attempts": 6}
BIG = {"name": "big", "when": {"volume_ml_over": 1.0}, "priority": "stat"}


@pytest.fixture(autouse=True)
def _no_identity_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="node"):
        yield
    assert not [secret for secret in SECRETS if secret in caplog.text]


def _store(
    folder: Path, channels: dict[str, Any], *, notify: dict[str, Any] | None = None, **more: Any
) -> tuple[Settings, Store]:
    rule = {**BIG, "channels": list(channels), **(notify or {})}
    settings = Settings.model_validate(
        {
            "node": {"data_dir": str(folder), "name": "test-node"},
            "channel": channels,
            "notify": [rule] if channels else [],
            "delivery": {"breaker_failures": 1000},
            **more,
        }
    )
    upgrade(settings)
    return settings, open_store(settings)


def _settled(store: Store, count: int, *, seconds: float = 15.0) -> list[Any]:
    """Wait until ``count`` notifications are delivered, dead or withdrawn, and return all."""
    ended = ("delivered", "dead", "withdrawn")
    wait_for(
        lambda: sum(row.state in ended for row in rows(store)) >= count,
        f"{count} notifications settled",
        seconds=seconds,
    )
    return rows(store)


def test_mllp_listener_that_refuses_drops_and_delays(tmp_path: Path) -> None:
    """Four faults and a stray acknowledgement: processed once, by one name, with the same bytes each time."""
    script = ["AR", "AE/207", "drop", "late", "stale"]
    with MllpListener(list(script)).running() as listener:
        ris = {"kind": "hl7", "host": "127.0.0.1", "port": listener.port, "identity": "patient", **FAST}
        settings, store = _store(tmp_path, {"ris": ris})
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
    assert (row.state, row.attempts, row.message) == ("delivered", len(script), "AA")
    assert listener.received == [row.control_id] * len(script)
    assert list(listener.processed) == [row.control_id]
    assert len(listener.raw) == 1, "every attempt is the same message"
    assert kinds(store).count("notification.unknown") == 2
    store.close()


def test_notifier_killed_while_it_waits_tells_once(tmp_path: Path) -> None:
    """kill -9 between message and acknowledgement: said again under the same name, and processed once."""
    with MllpListener(["late"], late_seconds=30.0).running() as listener:
        config = tmp_path / "node.toml"
        config.write_text(
            f'[node]\ndata_dir = "data"\n[channel.ris]\nkind = "hl7"\nhost = "127.0.0.1"\nport = {listener.port}\n'
            'identity = "patient"\nretry_seconds = 0.05\n[[notify]]\nname = "big"\nchannels = ["ris"]\n'
            "[notify.when]\nvolume_ml_over = 1.0\n"
        )
        settings = load(config)
        upgrade(settings)
        store = open_store(settings)
        receive(store)
        end_run(store, settings)
        command = [sys.executable, "-m", "node", "--config", str(config), "run", "notifier"]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
        wait_for(lambda: listener.received, "the message", seconds=30)
        first.kill()
        first.wait(10)
        assert [row.state for row in rows(store)] == ["sending"]
        second = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
        try:
            (row,) = _settled(store, 1, seconds=30)
        finally:
            second.terminate()
            assert second.wait(20) == 0
    assert (row.state, row.attempts) == ("delivered", 2)
    assert listener.received == [row.control_id] * 2
    assert list(listener.processed) == [row.control_id]
    assert len(listener.raw) == 1
    store.close()


def test_oru_says_what_was_found_and_whose_it_is(tmp_path: Path) -> None:
    with MllpListener().running() as listener:
        ris = {"kind": "hl7", "host": "127.0.0.1", "port": listener.port, "identity": "patient", **FAST}
        settings, store = _store(
            tmp_path, {"ris": {**ris, "receiving_application": "RIS&X", "assigning_authority": "HOSP"}}
        )
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            _settled(store, 1)
            end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=2)
            first, second = _settled(store, 2)
    assert listener.order == [first.control_id, second.control_id]
    alert, retraction = (parse_message(listener.processed[each]) for each in listener.order)
    assert alert.msh.msh_9.to_er7() == "ORU^R01^ORU_R01"
    assert alert.msh.msh_5.to_er7() == "RIS\\T\\X"
    result = alert.oru_r01_patient_result
    pid = result.oru_r01_patient.pid
    assert pid.pid_3.to_er7() == f"{PATIENT_ID}^^^HOSP^PI"
    assert [name.to_er7() for name in pid.pid_5] == ["SECRET^NAME^^JR^DR^^L^A", "秘密^名前^^^^^L^I"]
    assert pid.pid_7.to_er7() == "19011231"
    order = result.oru_r01_order_observation
    assert order.obr.obr_2.to_er7() == ACCESSION
    assert (order.obr.obr_3.to_er7(), order.obr.obr_25.to_er7()) == ("test-node-1", "P")
    assert order.oru_r01_timing_qty.tq1.tq1_9.to_er7() == "S^Stat^HL70485"
    lines = [each.obx for each in order.oru_r01_observation]
    assert {line.obx_11.value for line in lines} == {"P"}
    assert lines[0].obx_3.to_er7() == "432504007^Cerebral infarction^SCT"
    assert lines[0].obx_5.to_er7() == "52101004^Present^SCT"
    volumes = [
        (line.obx_4.value, line.obx_5.to_er7(), line.obx_6.to_er7()) for line in lines if line.obx_2.value == "NM"
    ]
    assert volumes[:2] == [("1", "12.500", "mL^milliliter^UCUM"), ("1.1", "12.500", "mL^milliliter^UCUM")]
    again = retraction.oru_r01_patient_result.oru_r01_order_observation
    assert again.obr.obr_3.to_er7() == "test-node-1", "a receiver finds what it has to take back"
    assert {each.obx.obx_11.value for each in again.oru_r01_observation} == {"D"}
    store.close()


def test_refused_for_good_is_dead_with_its_reason_and_the_next_is_called(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("webhook-word\n")
    with MllpListener(["AE/204"]).running() as listener, WebhookReceiver(b"webhook-word").running() as pager:
        channels = {
            "ris": {"kind": "hl7", "host": "127.0.0.1", "port": listener.port, "identity": "patient", **FAST},
            "senior": {"kind": "webhook", "url": pager.url, "secret_file": str(tmp_path / "secret"), **FAST},
        }
        chain = {"channels": ["ris"], "escalate": [{"after_seconds": 3600, "channels": ["senior"]}]}
        settings, store = _store(tmp_path / "data", channels, notify=chain)
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            dead, escalated = _settled(store, 2)
    assert (dead.state, dead.attempts) == ("dead", 1)
    assert "AE 204" in dead.message
    assert PATIENT_ID not in dead.message, "a receiver's words may quote the patient"
    assert (escalated.channel, escalated.event, escalated.state) == ("senior", "escalation", "delivered")
    (message,) = pager.messages()
    assert message["event"] == "escalation"
    assert not [secret for secret in SECRETS if secret in json.dumps(message, ensure_ascii=False)]
    store.close()


def test_nobody_listens(tmp_path: Path) -> None:
    """Every attempt counts for people: who is never reached must not keep the next from being called."""
    ris = {
        "kind": "hl7",
        "host": "127.0.0.1",
        "port": free_port(),
        "identity": "patient",
        **FAST,
        "maximum_attempts": 3,
    }
    settings, store = _store(tmp_path, {"ris": ris})
    receive(store)
    end_run(store, settings)
    with running_notifier(settings, store):
        (row,) = _settled(store, 1)
        wait_for(lambda: kinds(store)[-1] == "alert.unheard", "that nobody is left is said")
    assert (row.state, row.attempts) == ("dead", 3)
    assert "PEER-001" in row.message
    store.close()


def test_image_without_patient_id_is_not_told_to_a_ris(tmp_path: Path) -> None:
    with MllpListener().running() as listener:
        ris = {"kind": "hl7", "host": "127.0.0.1", "port": listener.port, "identity": "patient", **FAST}
        settings, store = _store(tmp_path, {"ris": ris})
        receive(store, patient_id="")
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
    assert row.state == "dead"
    assert "NOT-002" in row.message
    assert listener.received == []
    store.close()


def test_webhook_is_signed_and_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("webhook-word\n")
    with WebhookReceiver(b"webhook-word").running() as pager:
        pager.faults = [503, 0]
        webhook = {"kind": "webhook", "url": f"{pager.url}/hook", "secret_file": str(tmp_path / "secret"), **FAST}
        settings, store = _store(
            tmp_path / "data",
            {"pager": webhook},
            web={"enabled": True},
            notifications={"public_url": "https://ainode.hospital/"},
        )
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
        first, second = pager.messages()
    assert (row.state, row.attempts) == ("delivered", 3)
    assert first == second
    assert first["id"] == row.control_id
    assert first["summary"] == "STAT Acute infarct core on diffusion MR: found, 12.50 mL, left"
    token = Acknowledgement(settings.data_dir, "").token(row.alert_id)
    assert first["acknowledge"] == {"token": token, "url": f"https://ainode.hospital/alert/{token}"}
    assert not [secret for secret in SECRETS if secret in json.dumps(first, ensure_ascii=False)]
    store.close()


def test_webhook_that_is_gone_is_dead(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("webhook-word\n")
    with WebhookReceiver(b"webhook-word").running() as pager:
        pager.faults = [410]
        webhook = {"kind": "webhook", "url": pager.url, "secret_file": str(tmp_path / "secret"), **FAST}
        settings, store = _store(tmp_path / "data", {"pager": webhook})
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
    assert row.state == "dead"
    assert "HTTP 410" in row.message
    store.close()


def test_fhir_server_gets_one_report_whatever_is_repeated(tmp_path: Path) -> None:
    with FhirServer().running() as server:
        server.faults = [503, 0]
        ehr = {"kind": "fhir", "url": server.url, "identity": "patient", "patient_system": "urn:hospital:pid", **FAST}
        settings, store = _store(tmp_path, {"ehr": ehr})
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            _settled(store, 1)
            assert len(server.bodies) == 2, "taken, but the answer was lost: sent again"
            (report,) = server.of("DiagnosticReport")
            assert len(server.of("Observation")) == 2
            end_run(store, settings, found=summary(30.0), run=2)
            _settled(store, 2)
            (updated,) = server.of("DiagnosticReport")
            end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=3)
            alert, _, _ = _settled(store, 3)
    assert report["status"] == "preliminary"
    assert report["subject"]["identifier"] == {"system": "urn:hospital:pid", "value": PATIENT_ID}
    assert report["basedOn"][0]["identifier"]["value"] == ACCESSION
    assert report["meta"]["tag"][0]["code"] == alert.control_id
    assert "30.00 mL" in updated["conclusion"]
    assert {each["status"] for each in server.of("Observation")} == {"entered-in-error"}
    (gone,) = server.of("DiagnosticReport")
    assert gone["status"] == "entered-in-error"
    store.close()


def test_fhir_server_that_refuses_is_quoted_by_codes_only(tmp_path: Path) -> None:
    with FhirServer().running() as server:
        server.faults = [422]
        settings, store = _store(tmp_path, {"ehr": {"kind": "fhir", "url": server.url, **FAST}})
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
    assert row.state == "dead"
    assert "error business-rule" in row.message
    assert PATIENT_ID not in row.message
    assert "subject" not in json.dumps(row.content)
    store.close()


def test_mail_goes_encrypted_to_all_or_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("mail-word\n")
    certificate = Authority(tmp_path, "hospital").issue("mail")
    with MailServer(certificate, replies=["451 try later"]).running() as server:
        mail = {
            "kind": "email",
            "host": "localhost",
            "port": server.port,
            "tls": {"ca": str(certificate.ca)},
            "sender": "ainode@hospital.test",
            "recipients": ["stroke@hospital.test", "gone@hospital.test"],
            "username": "ainode",
            "passcode_file": str(tmp_path / "word"),
            **FAST,
            "response_timeout_seconds": 5.0,
        }
        settings, store = _store(tmp_path / "data", {"mail": mail})
        receive(store)
        end_run(store, settings)
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
            assert (row.state, row.attempts) == ("delivered", 2)
            server.refused = {"gone@hospital.test"}
            end_run(store, settings, outcome="nothing_found", found=summary(0.0), run=2)
            _, refused = _settled(store, 2)
    assert refused.state == "dead"
    assert "recipient 2 of 2" in refused.message
    (raw,) = server.messages
    message = email.message_from_bytes(raw, policy=policy.default)
    assert message["Message-ID"] == f"<{row.control_id}@hospital.test>"
    assert message["Subject"] == "STAT Acute infarct core on diffusion MR: found, 12.50 mL, left"
    assert message["Importance"] == "high"
    text = message.get_content()
    assert f"Acknowledge: ainode notifications ack {Acknowledgement(settings.data_dir, '').token(1)}" in text
    assert "not verified by a physician" in text
    assert not [secret for secret in SECRETS if secret in raw.decode() or secret in text]
    store.close()


def test_acknowledge_link_changes_nothing_until_its_button_is_pressed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("w\n")
    webhook = {"kind": "webhook", "url": "http://127.0.0.1:1", "secret_file": str(tmp_path / "secret")}
    settings, store = _store(tmp_path / "data", {"pager": webhook})
    receive(store)
    end_run(store, settings)
    client = TestClient(create_app(settings, store))
    token = Acknowledgement(settings.data_dir, "").token(1)
    page = client.get(f"/alert/{token}")
    assert page.status_code == 200
    assert "12.50 mL" in page.text
    assert not [secret for secret in SECRETS if secret in page.text]
    assert rows(store, tables.alerts)[0].state == "open"
    assert "form-action 'self'" in page.headers["Content-Security-Policy"]
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert client.get(f"/alert/{wrong}").status_code == 404
    assert client.post(f"/alert/{wrong}", data={"by": "x"}).status_code == 404
    assert "Say who" in client.post(f"/alert/{token}", data={"by": " "}).text
    assert "Acknowledged." in client.post(f"/alert/{token}", data={"by": "Dr <b>A</b>"}).text
    assert "Dr &lt;b&gt;A" in client.get(f"/alert/{token}").text
    (alert,) = rows(store, tables.alerts)
    assert (alert.state, alert.acknowledged_by) == ("acknowledged", "Dr <b>A</b>")
    store.close()


def test_availability_is_told_once_everything_is_committed(tmp_path: Path) -> None:
    told: list[tuple[str, Dataset]] = []
    statuses = [0x0110, 0x0000]

    def take(event: evt.Event) -> tuple[int, None]:
        told.append((str(event.request.AffectedSOPInstanceUID), event.attribute_list))
        return statuses.pop(0), None

    scp = AE("RIS")
    scp.add_supported_context(InstanceAvailabilityNotification)
    server = scp.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, take)])
    try:
        availability = {"ae_title": "RIS", "host": "127.0.0.1", "port": server.socket.getsockname()[1]}
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "availability": availability, **FAST}
        settings, store = _store(tmp_path / "data", {}, destination={"pacs": pacs})
        files = [instance(tmp_path, number) for number in range(2)]
        file_delivery(store, settings, files, ["pacs"], now=1.0)
        first, second = rows(store, tables.deliveries)
        _set_state(store, first.id, "committed")
        assert Notifier(settings, store).keep_house() is False, "not before the last object is committed"
        _set_state(store, second.id, "committed")
        with running_notifier(settings, store):
            (row,) = _settled(store, 1)
        assert Notifier(settings, store).keep_house() is False, "told once"
    finally:
        server.shutdown()
    assert (row.channel, row.state, row.attempts) == ("availability:pacs", "delivered", 2)
    assert told[0][0] == told[1][0], "the same notification in each attempt"
    dataset = told[1][1]
    (series,) = dataset.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence} == {
        first.sop_instance_uid,
        second.sop_instance_uid,
    }
    assert {(item.InstanceAvailability, item.RetrieveAETitle) for item in series.ReferencedSOPSequence} == {
        ("ONLINE", "PACS")
    }
    store.close()


def _set_state(store: Store, delivery: int, state: str) -> None:
    with store.write() as connection:
        connection.execute(tables.deliveries.update().where(tables.deliveries.c.id == delivery).values(state=state))
