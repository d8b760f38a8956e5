"""TLS with real certificates: DCMTK and our own sender let in, everybody else refused, recorded, and the listener lives."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.archive import tables
from node.archive.spool import dataset_digest
from node.dicom.association import ClientAssociation, Peer, Proposal
from node.dicom.commitment import COMMITMENT_PROPOSAL
from node.dicom.pacs import TestPacs
from node.dicom.storage_scu import send_paths
from node.dicom.tls import RotatingContext, client_context
from node.dicom.tls_client import Dialer
from node.dicom.tls_gate import TlsGate
from node.dicom.verify_peer import verify_peer
from node.doorbell import SENDER, ring
from node.errors import PeerNotTrusted, PeerUnreachable
from node.settings import DestinationTlsSection, ReceiveTlsSection
from tests.network import (
    Node,
    file_delivery,
    instance,
    run_tool,
    running_node,
    running_sender,
    tool_server,
    wait_for,
)
from tests.node_process import NodeProcess
from tests.peers import free_port, require
from tests.tls_certificates import Authority, Certificate, context_of

ECHO = [Proposal(str(Verification))]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="module")
def own(hospital: Authority) -> Certificate:
    return hospital.issue("node")


@pytest.fixture(scope="module")
def modality(hospital: Authority) -> Certificate:
    return hospital.issue("modality")


@contextmanager
def tls_node(folder: Path, own: Certificate, *, plain: bool = False, **receive: Any) -> Iterator[Node]:
    """A node whose host and port are those of its TLS listener."""
    tls = own.listener(port=free_port(), **receive.pop("tls", {}))
    with running_node(folder, receive={"plain": plain, "tls": tls, **receive}) as node:
        node.port = tls["port"]
        yield node


def secure(node: Node, certificate: Certificate, **changes: Any) -> Peer:
    return node.peer(tls=DestinationTlsSection.model_validate(certificate.client()), **changes)


def echo(peer: Peer) -> None:
    with ClientAssociation(peer, ECHO) as association, association.exchange() as connection:
        assert connection.send_c_echo().Status == 0x0000


def refusals(node: Node) -> list[str]:
    return [row.detail["reason"] for row in node.ledger("tls.refused")]


@pytest.mark.peer
def test_storescu_and_own_sender_with_certificates(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    files = [instance(tmp_path / "in", number, pixels=bytes(range(256)) * 1024) for number in range(4)]
    with tls_node(tmp_path, own) as node:
        called = ("-aec", "AINODE", node.host, node.port)
        done = run_tool("storescu", *modality.dcmtk(), *called, *files[:2])
        assert done.returncode == 0, done.stdout
        assert run_tool("echoscu", *modality.dcmtk(), *called).returncode == 0
        assert send_paths(secure(node, modality), files[2:]).complete
        assert sorted(map(dataset_digest, node.files())) == sorted(map(dataset_digest, files))
        assert not node.ledger("tls.refused")


def test_plain_and_tls_side_by_side(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    with tls_node(tmp_path, own, plain=True, maximum_associations=2) as node:
        plain = node.peer(port=node.settings.receive.port)
        echo(plain)
        echo(secure(node, modality))
        # One limit for both.
        with ClientAssociation(plain, ECHO), ClientAssociation(secure(node, modality), ECHO):
            for peer in (plain, secure(node, modality)):
                with pytest.raises(PeerUnreachable, match="local limit"):
                    echo(peer)


def attempt(node: Node, context: ssl.SSLContext) -> None:
    """Connect and read to the end: in TLS 1.3 a client hears after its handshake that it was refused."""
    with (
        socket.create_connection((node.host, node.port), 5) as plain,
        pytest.raises(OSError) as caught,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"\x01\x00\x00\x00\x00\x44")
        if not connection.recv(1):
            raise ConnectionResetError
    assert not isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_refused_and_recorded_and_the_listener_lives(
    tmp_path: Path, hospital: Authority, own: Certificate, modality: Certificate, newest: ssl.TLSVersion
) -> None:
    stranger = Authority(tmp_path, "stranger").issue("modality")
    expired = hospital.issue("old", days=-1)
    cases = (
        (None, "no certificate"),
        (stranger, "certificate not from a trusted authority"),
        (expired, "certificate expired"),
    )
    with tls_node(tmp_path, own) as node:

        def limited(context: ssl.SSLContext) -> None:
            context.maximum_version = newest

        for number, (certificate, reason) in enumerate(cases, start=1):
            attempt(node, context_of(certificate, own.ca, limited))
            wait_for(lambda count=number: len(refusals(node)) == count, reason)
            assert refusals(node)[-1] == reason
            echo(secure(node, modality))
        row = node.ledger("tls.refused")[0]
        assert row.detail["address"] == "127.0.0.1"
        assert not node.ledger("association.rejected")


def test_too_old_and_plaintext_are_refused(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    def old(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    with tls_node(tmp_path, own) as node, pytest.warns(DeprecationWarning):
        attempt(node, context_of(modality, own.ca, old))
        wait_for(lambda: refusals(node) == ["TLS version too old"], "the old version")
        echo(secure(node, modality))
        with pytest.raises(PeerUnreachable):
            echo(node.peer())
        wait_for(lambda: refusals(node)[1:] == ["no TLS"], "plaintext")
        echo(secure(node, modality))


def test_a_silent_client_blocks_nobody_and_is_dropped(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    with tls_node(tmp_path, own, tls={"handshake_seconds": 0.5}) as node:
        with socket.create_connection((node.host, node.port)) as silent:
            silent.sendall(b"\x16\x03\x01")
            started = time.monotonic()
            echo(secure(node, modality))
            assert time.monotonic() - started < 0.5
            wait_for(lambda: refusals(node) == ["handshake not finished in time"], "the time limit")
        echo(secure(node, modality))


def test_a_refused_client_does_not_stay_by_dripping(tmp_path: Path, own: Certificate) -> None:
    """After the alert a peer has a moment to close; a byte now and then does not make it longer."""
    with tls_node(tmp_path, own) as node, socket.create_connection((node.host, node.port)) as plaintext:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 6:
                plaintext.sendall(b"A")
                time.sleep(0.2)
        assert time.monotonic() - began < 4


def test_new_certificate_while_an_association_is_open(
    tmp_path: Path, hospital: Authority, own: Certificate, modality: Certificate
) -> None:
    used = Certificate(tmp_path / "node.pem", tmp_path / "node.key", own.ca)
    shutil.copy(own.certificate, used.certificate)
    shutil.copy(own.key, used.key)

    def shown(node: Node) -> str:
        context = context_of(modality, own.ca, lambda context: None)
        with (
            socket.create_connection((node.host, node.port), 5) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return dict(part[0] for part in (connection.getpeercert() or {})["subject"])["commonName"]

    with tls_node(tmp_path, used) as node, ClientAssociation(secure(node, modality), ECHO) as association:
        assert shown(node) == "node"
        fresh = hospital.issue("renewed")
        # Certificate first: for a moment the pair does not fit, and the former one must go on.
        shutil.copy(fresh.certificate, tmp_path / "new").replace(used.certificate)
        assert shown(node) == "node"
        shutil.copy(fresh.key, tmp_path / "new").replace(used.key)
        assert shown(node) == "renewed"
        used.certificate.write_text("broken")
        assert shown(node) == "renewed"
        with association.exchange() as connection:
            assert connection.send_c_echo().Status == 0x0000
        assert len(node.ledger("tls.renewed")) == 1
        wait_for(lambda: len(node.ledger("tls.unusable")) == 2, "both mistakes")


def test_certificate_bound_to_an_entry_of_the_list(
    tmp_path: Path, hospital: Authority, own: Certificate, modality: Certificate
) -> None:
    allow = [{"ae_title": "MODALITY", "certificate": "modality*.test"}, {"ae_title": "OTHER", "certificate": "OTHER"}]
    other = hospital.issue("other")
    with tls_node(tmp_path, own, plain=True, allow=allow) as node:
        echo(secure(node, modality))
        echo(secure(node, other, calling_ae_title="OTHER"))  # by its common name
        plain = node.peer(port=node.settings.receive.port)
        for peer in (secure(node, other), secure(node, modality, calling_ae_title="OTHER"), plain):
            with pytest.raises(PeerUnreachable, match="rejected"):
                echo(peer)
        wait_for(lambda: node.ledger("association.rejected"), "the ledger row")
        assert {row.detail["reason"] for row in node.ledger("association.rejected")} == {"certificate not allowed"}


def test_certificates_can_be_optional(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    stranger = Authority(tmp_path, "stranger").issue("modality")
    allow = [{"ae_title": "MODALITY"}, {"ae_title": "BOUND", "certificate": "modality"}]
    with tls_node(tmp_path, own, tls={"require_client_certificate": False}, allow=allow) as node:
        nameless = DestinationTlsSection.model_validate({"ca": str(own.ca)})
        echo(node.peer(tls=nameless))
        echo(secure(node, modality, calling_ae_title="BOUND"))
        with pytest.raises(PeerUnreachable, match="rejected"):
            echo(node.peer(tls=nameless, calling_ae_title="BOUND"))
        with pytest.raises(PeerNotTrusted):
            echo(node.peer(tls=DestinationTlsSection.model_validate({**stranger.client(), "ca": str(own.ca)})))
        wait_for(lambda: refusals(node) == ["certificate not from a trusted authority"], "the bad certificate")


def test_our_side_says_what_is_wrong(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    stranger = Authority(tmp_path, "stranger").issue("modality")
    with tls_node(tmp_path, own, plain=True) as node:
        trusting_others = {**modality.client(), "ca": str(stranger.ca)}
        wrong_name = modality.client(server_name="elsewhere.test")
        cases = (
            (trusting_others, "its certificate is not accepted"),
            (wrong_name, "not valid for 'elsewhere.test'"),
            ({"ca": str(own.ca)}, "certificate required"),
            ({**stranger.client(), "ca": str(own.ca)}, "unknown ca"),
            ({"ca": str(tmp_path / "absent.pem")}, "absent.pem cannot be read"),
        )
        for section, words in cases:
            with pytest.raises(PeerNotTrusted, match=words):
                echo(node.peer(tls=DestinationTlsSection.model_validate(section)))
        with pytest.raises(PeerNotTrusted):
            echo(secure(node, modality, port=node.settings.receive.port))


@pytest.mark.parametrize("own_association", [False, True])
def test_results_to_a_tls_archive_are_committed(
    tmp_path: Path, hospital: Authority, own: Certificate, own_association: bool
) -> None:
    archive = hospital.issue("pacs")
    node_port, pacs_port = free_port(), free_port()
    back = Peer(
        ae_title="AINODE",
        host="127.0.0.1",
        port=node_port,
        calling_ae_title="TESTPACS",
        tls=DestinationTlsSection.model_validate(archive.client()),
    )
    listener = ReceiveTlsSection.model_validate(archive.listener())
    refused: list[str] = []
    gate = TlsGate(RotatingContext.of_listener(listener), seconds=5, refused=lambda why, _: refused.append(why))
    pacs = TestPacs(tmp_path / "pacs", port=pacs_port, node=back if own_association else None, gate=gate)
    target = {"ae_title": "TESTPACS", "host": "localhost", "port": pacs_port, "tls": own.client()}
    receive = {"plain": False, "tls": own.listener(port=node_port)}
    with pacs.running(), running_node(tmp_path, receive=receive, destination={"pacs": target}) as node:
        with running_sender(node.settings, node.store):
            files = [instance(tmp_path / "in", number) for number in range(3)]
            file_delivery(node.store, node.settings, files, ["pacs"], now=time.time())
            ring(node.settings.data_dir / "run", SENDER)
            wait_for(lambda: {row.state for row in node.rows(tables.deliveries)} == {"committed"}, "the commitment")
        report = verify_peer(Peer.of(node.settings.destination["pacs"], "AINODE"))
        assert report.echo_status == 0
        assert any(each.abstract_syntax == COMMITMENT_PROPOSAL.abstract_syntax for each in report.contexts)
        assert not refused


@pytest.mark.peer
def test_results_to_storescp_with_tls(tmp_path: Path, hospital: Authority, own: Certificate) -> None:
    archive, port = hospital.issue("storescp", rsa=True), free_port()
    (tmp_path / "out").mkdir()
    target = {"ae_title": "ANY", "host": "127.0.0.1", "port": port, "tls": own.client(), "commitment": False}
    with (
        tool_server("storescp", *archive.dcmtk(), "-od", tmp_path / "out", port, port=port),
        running_node(tmp_path, destination={"pacs": target}) as node,
        running_sender(node.settings, node.store),
    ):
        files = [instance(tmp_path / "in", number, pixels=bytes(200_000)) for number in range(3)]
        file_delivery(node.store, node.settings, files, ["pacs"], now=time.time())
        ring(node.settings.data_dir / "run", SENDER)
        wait_for(lambda: {row.state for row in node.rows(tables.deliveries)} == {"stored"}, "three stored")
        assert sorted(map(dataset_digest, (tmp_path / "out").iterdir())) == sorted(map(dataset_digest, files))


@pytest.mark.slow
def test_served_node_passes_both_sockets_to_several_receivers(
    tmp_path: Path, own: Certificate, modality: Certificate
) -> None:
    tls_port = free_port()
    node = NodeProcess(tmp_path / "node", {}, jobs="")
    node.configure()
    tls = f'[receive.tls]\nenabled = true\nport = {tls_port}\ncertificate = "{own.certificate}"\nkey = "{own.key}"\n'
    text = node.config.read_text().replace(
        "disk_reserve_bytes", "processes = 2\nmaximum_associations = 3\ndisk_reserve_bytes"
    )
    node.config.write_text(f'{text}\n{tls}ca = "{own.ca}"\n')
    node.start()
    try:
        plain = Peer(ae_title="AINODE", host="127.0.0.1", port=node.port, calling_ae_title="MODALITY")
        section = DestinationTlsSection.model_validate(modality.client())
        over_tls = Peer(ae_title="AINODE", host="127.0.0.1", port=tls_port, calling_ae_title="MODALITY", tls=section)
        wait_for(lambda: len(node.roles().get("receiver", [])) == 2, "both receivers")
        for _ in range(4):
            echo(plain)
            echo(over_tls)
        # The limit holds over both processes, whoever accepts.
        held = [ClientAssociation(peer, ECHO) for peer in (plain, over_tls, plain)]
        for association in held:
            association.__enter__()
        for _ in range(6):
            with pytest.raises(PeerUnreachable, match="local limit"):
                echo(over_tls)
        # A killed receiver gives back what it held.
        node.kill("receiver")

        def free() -> bool:
            try:
                echo(plain)
                return True
            except PeerUnreachable:
                return False

        wait_for(free, "receivers again", seconds=20)
        assert "(TLS)" in node.cli("status").stdout
    finally:
        node.stop()


def test_records_without_data_make_nobody_wait(own: Certificate, modality: Certificate) -> None:
    """A peer's session tickets after the handshake look like data to the system, and are none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    assert context.num_tickets == 2
    dialer = Dialer(client_context(DestinationTlsSection.model_validate(modality.client()), "tls"))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(lambda: context.wrap_socket(listener.accept()[0], server_side=True))
        plain = socket.socket()
        plain.settimeout(5)
        connection = cast(Any, dialer.wrap_socket(plain, server_side=False, server_hostname="127.0.0.1"))
        connection.connect(listener.getsockname())
        with connection, accepting.result(10) as server:
            assert connection.version() == "TLSv1.3"
            assert select.select([connection], [], [], 5)[0]
            assert not connection.has_data()
            assert connection.gettimeout() == 5
            server.sendall(b"abc")
            wait_for(connection.has_data, "the data")
            buffer = bytearray(8)
            received = b""
            while len(received) < 3:
                received += bytes(buffer[: connection.recv_into(memoryview(buffer))])
            assert received == b"abc"
            assert not connection.has_data()
            server.close()
            wait_for(connection.has_data, "the end")
            assert connection.recv_into(memoryview(buffer)) == 0
    assert not dialer.reason


@pytest.mark.peer
def test_openssl_sees_the_profile(tmp_path: Path, own: Certificate, modality: Certificate) -> None:
    """What an auditor's tool finds: no old version, no weak cipher, no resumption."""
    with tls_node(tmp_path, own) as node:

        def client(*words: str) -> str:
            command = [require("openssl"), "s_client", "-connect", f"127.0.0.1:{node.port}", "-CAfile", str(own.ca)]
            pair = ["-cert", str(modality.certificate), "-key", str(modality.key)]
            done = subprocess.run([*command, *pair, *words], input=b"", capture_output=True, timeout=20, check=False)
            return (done.stdout + done.stderr).decode(errors="replace")

        assert "Verify return code: 0 (ok)" in client("-tls1_2")
        assert "ECDHE-ECDSA-AES" in client("-tls1_2")
        assert "TLS_AES" in client("-tls1_3")
        for weak in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "AES128-SHA"):
            assert "Cipher is (NONE)" in client("-tls1_2", "-cipher", weak)
        with node.store.read() as connection:
            kinds = set(connection.execute(sqlalchemy.select(tables.ledger.c.kind)).scalars())
        assert kinds == {"tls.refused"}
