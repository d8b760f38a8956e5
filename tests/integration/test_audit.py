"""Audit messages: what the ledger says, by the rules of PS3.15 A.5.1, to real receivers over TLS that come and go."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.archive import ledger, tables
from node.audit.forwarder import Forwarder
from node.dicom.query_record import note_query
from node.dicom.storage_scu import send_paths
from node.errors import PeerNotTrusted, PeerUnreachable
from tests.audit_judge import faults
from tests.network import Node, file_delivery, instance, running_node, uid, wait_for
from tests.peers import free_port, require
from tests.syslog_server import SyslogServer, event_of
from tests.tls_certificates import Authority, Certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("audit"), "audit-ca")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("repository")


def _audited(folder: Path, port: int, ca: Path, **changes: object) -> Iterator[Node]:
    audit = {"enabled": True, "host": "localhost", "port": port, "tls": {"ca": str(ca)}, "site": "Ward 7", **changes}
    with running_node(folder, audit=audit) as node:
        with node.store.write() as connection:
            ledger.record(connection, time.time(), ledger.Kind.NODE_STARTED)
        yield node


def _sealed(node: Node) -> None:
    with node.store.write() as connection:
        while ledger.seal(connection):
            pass


def _do_everything(node: Node, folder: Path) -> None:
    """Receive a study of two, refuse a stranger, sign on, look, ask, stop."""
    files = [instance(folder, number, study="a", PatientName="SECRET^NAME", PatientID="PID1") for number in range(2)]
    assert send_paths(node.peer(), files).complete
    with pytest.raises(PeerUnreachable):
        send_paths(node.peer(ae_title="NOBODY"), files)
    wait_for(lambda: node.ledger("association.closed"), "the association to be closed")
    query = Dataset()
    query.Modality = "MR"
    note_query(node.settings, node.store, "ris", "1.2.840.10008.5.1.4.31", query)
    with node.store.write() as connection:
        now = time.time()
        tanaka = {"by": "dr.tanaka", "address": "10.0.0.9"}
        ledger.record(connection, now, ledger.Kind.PERSON_SIGNED_IN, **tanaka)
        ledger.record(connection, now, ledger.Kind.PERSON_REFUSED, by="guess", why="wrong passcode", address="10.0.0.8")
        ledger.record(connection, now, ledger.Kind.PERSON_LOOKED, study=uid("a"), **tanaka)
        ledger.record(connection, now, ledger.Kind.NODE_STOPPED)
    _sealed(node)


def test_everything_is_told_and_nothing_lost(tmp_path: Path, certificate: Certificate) -> None:
    port = free_port()
    server = SyslogServer(certificate, port)
    for node in _audited(tmp_path, port, certificate.ca):
        forwarder = Forwarder(node.settings, node.store)
        _do_everything(node, tmp_path / "files")
        # The repository is down: everything stays, however often it is tried.
        for _ in range(2):
            with pytest.raises(PeerUnreachable):
                forwarder.forward()
        with server.running():
            while forwarder.forward():
                pass
            told = server.messages()
            assert sorted(event_of(each) for each in told) == sorted(
                [
                    ("110100", "110120"),
                    ("110100", "110121"),
                    ("110104", ""),
                    ("110113", "110126"),
                    ("110112", ""),
                    ("110114", "110122"),
                    ("110114", "110122"),
                    ("110103", ""),
                ]
            )
            # Another reader of the same position, as after a restart, tells nothing twice.
            assert Forwarder(node.settings, node.store).forward() == 0
    moved = next(each for each in told if event_of(each)[0] == "110104")
    things = {each.attrib["ParticipantObjectID"]: each for each in moved.iter("ParticipantObjectIdentification")}
    assert set(things) == {uid("a"), "PID1"}
    classes = things[uid("a")].find("ParticipantObjectDescription/SOPClass")
    assert classes is not None and classes.attrib["NumberOfInstances"] == "2"
    whole = b"".join(server.frames)
    assert b"SECRET" not in whole and b"Ward 7" in whole
    outcomes = [each.find("EventIdentification").attrib["EventOutcomeIndicator"] for each in told]  # type: ignore[union-attr]
    assert outcomes.count("4") == 1 and outcomes.count("8") == 1


def test_untrusted_repository_gets_nothing(tmp_path: Path, certificate: Certificate) -> None:
    port = free_port()
    server = SyslogServer(certificate, port)
    other = Authority(tmp_path, "other")
    for node in _audited(tmp_path / "node", port, other.ca):
        _sealed(node)
        with server.running(), pytest.raises(PeerNotTrusted):
            Forwarder(node.settings, node.store).forward()
    assert server.frames == []


def test_datagrams(tmp_path: Path, certificate: Certificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        changes = {"transport": "udp", "tls": None, "host": "127.0.0.1"}
        for node in _audited(tmp_path, receiver.getsockname()[1], certificate.ca, **changes):
            _sealed(node)
            assert Forwarder(node.settings, node.store).forward() == 1
        assert b"Application Start" in receiver.recv(65536)


def test_off_by_default(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        assert not node.settings.audit.enabled
        query = Dataset()
        query.Modality = "MR"
        note_query(node.settings, node.store, "ris", "1.2.840.10008.5.1.4.31", query)
        assert node.ledger("query.sent") == []


def test_judge_has_teeth() -> None:
    good = (
        '<AuditMessage><EventIdentification EventActionCode="E" EventDateTime="2026-01-01T00:00:00+00:00" '
        'EventOutcomeIndicator="0"><EventID csd-code="110100" codeSystemName="DCM" originalText="Application Activity"/>'
        '</EventIdentification><ActiveParticipant UserID="a" UserIsRequestor="true"/>'
        '<AuditSourceIdentification AuditSourceID="n"/></AuditMessage>'
    )
    assert faults(good) == []
    for before, after in (
        ("csd-code", "code"),
        ('EventActionCode="E"', 'EventActionCode="X"'),
        ("+00:00", ""),
        ('<ActiveParticipant UserID="a" UserIsRequestor="true"/>', ""),
        ("</AuditMessage>", '<ParticipantObjectIdentification ParticipantObjectID="1"/></AuditMessage>'),
        (' originalText="Application Activity"', ""),
    ):
        assert faults(good.replace(before, after)), before


@pytest.mark.peer
def test_rsyslog_takes_them(tmp_path: Path, certificate: Certificate) -> None:
    """rsyslog with its GnuTLS driver, as hospitals run it."""
    daemon, port, out = require("rsyslogd"), free_port(), tmp_path / "out.log"
    config = tmp_path / "rsyslog.conf"
    config.write_text(
        f'global(workDirectory="{tmp_path}" defaultNetstreamDriver="gtls" maxMessageSize="64k"\n'
        f'  defaultNetstreamDriverCAFile="{certificate.ca}"\n'
        f'  defaultNetstreamDriverCertFile="{certificate.certificate}"\n'
        f'  defaultNetstreamDriverKeyFile="{certificate.key}")\n'
        'module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")\n'
        f'input(type="imtcp" port="{port}" address="127.0.0.1")\n'
        'template(name="raw" type="string" string="%msg%\\n")\n'
        f'action(type="omfile" file="{out}" template="raw")\n'
    )
    process = subprocess.Popen(
        [daemon, "-n", "-f", str(config), "-i", str(tmp_path / "pid")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ},
    )
    try:
        wait_for(lambda: _listens(port), "rsyslog", seconds=20)
        for node in _audited(tmp_path / "node", port, certificate.ca):
            _do_everything(node, tmp_path / "files")
            forwarder = Forwarder(node.settings, node.store)
            while forwarder.forward():
                pass
        wait_for(lambda: out.exists() and out.read_text().count("</AuditMessage>") >= 8, "8 messages", seconds=10)
        lines = [
            line[line.index("<AuditMessage") :] for line in out.read_text().splitlines() if "<AuditMessage" in line
        ]
        assert len(lines) == 8
        assert [faults(line) for line in lines] == [[]] * 8
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_results_that_leave_are_told(tmp_path: Path, certificate: Certificate) -> None:
    """Two objects to one destination are one beginning and one transfer, from us to it."""
    port = free_port()
    server = SyslogServer(certificate, port)
    pacs = {"ae_title": "PACS", "host": "10.9.8.7", "port": 104}
    audit = {"enabled": True, "host": "localhost", "port": port, "tls": {"ca": str(certificate.ca)}}
    with running_node(tmp_path, audit=audit, destination={"pacs": pacs}) as node, server.running():
        files = [instance(tmp_path / "files", number, study="r") for number in range(2)]
        file_delivery(node.store, node.settings, files, ["pacs"], now=time.time())
        with node.store.write() as connection:
            ledger.record(connection, time.time(), ledger.Kind.NODE_STARTED)
            for kind in (ledger.Kind.DELIVERY_SENDING, ledger.Kind.DELIVERY_STORED):
                for row in node.rows(tables.objects):
                    facts = {
                        "study_uid": row.study_uid,
                        "sop_instance_uid": row.sop_instance_uid,
                        "destination": "pacs",
                    }
                    ledger.record(connection, time.time(), kind, **facts)
        _sealed(node)
        while Forwarder(node.settings, node.store).forward():
            pass
        told = [each for each in server.messages() if event_of(each)[0] in ("110102", "110104")]
    assert [event_of(each)[0] for each in told] == ["110102", "110104"]
    for each in told:
        source, destination = each.findall("ActiveParticipant")
        assert (source.attrib["UserID"], source.attrib["UserIsRequestor"]) == ("AINODE", "true")
        assert (destination.attrib["UserID"], destination.attrib["NetworkAccessPointID"]) == ("PACS", "10.9.8.7")
        (classes,) = each.iter("SOPClass")
        assert classes.attrib["NumberOfInstances"] == "2"
