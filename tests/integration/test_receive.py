"""The receiver against real senders: what it acknowledges is on the disk and in the index, byte for byte."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.archive import tables
from node.archive.part10 import dataset_offset, file_meta_bytes
from node.archive.rescan import rescan
from node.archive.spool import dataset_digest
from node.dicom import storage_scp
from node.dicom.association import ClientAssociation, Proposal
from node.dicom.storage_scp import run_receiver
from node.dicom.storage_scu import Sent, read_object_file, send_object, send_paths
from node.doorbell import SCHEDULER, Doorbell
from node.errors import PeerBusy, PeerRejectedObject
from node.why import tell
from tests.network import LABEL_MAP_SEG, MR, Node, instance, node_settings, run_tool, running_node, uid, wait_for
from tests.wire import associate_request

pytestmark = pytest.mark.usefixtures("lane")


def data_set(path: Path) -> bytes:
    return path.read_bytes()[dataset_offset(path) :]


@pytest.mark.peer
@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
@pytest.mark.parametrize("no_delay", [True, False])
def test_dcmtk_sends_a_study(tmp_path: Path, tool: str, no_delay: bool) -> None:
    files = [instance(tmp_path / "in", number) for number in range(5)]
    with running_node(tmp_path) as node, Doorbell(node.settings.data_dir / "run", SCHEDULER).listen() as bell:
        done = run_tool(tool, "-aec", "AINODE", node.host, node.port, *files, no_delay=no_delay)
        assert done.returncode == 0, done.stdout
        assert bell.wait(1.0)
        assert sorted(data_set(path) for path in node.files()) == sorted(data_set(path) for path in files)
        assert len(node.rows(tables.instances)) == 5
        (study,) = node.rows(tables.studies)
        assert study.study_uid == uid("s")
        wait_for(lambda: node.ledger("association.closed"), "the association's end")
        (association,) = node.rows(tables.associations)
        assert (association.ending, association.instances, association.address) == ("released", 5, "127.0.0.1")
        assert len(node.ledger("instance.received")) == 5


def test_the_file_says_who_sent_it(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path, receive={"called_ae_titles": ["STROKE"]}) as node:
        assert send_paths(node.peer(ae_title="STROKE"), [file]).complete
        (stored,) = node.files()
        meta = dcmread(stored).file_meta
        assert meta.SendingApplicationEntityTitle == "MODALITY"
        assert meta.ReceivingApplicationEntityTitle == "STROKE"


def test_who_had_it_moved_is_kept(tmp_path: Path) -> None:
    """Move Originator AE title and Message ID (PS3.7 9.1.1.1), and none where nobody asked for the image."""
    with running_node(tmp_path) as node:
        entity = AE("ARCHIVE")
        entity.add_requested_context(MR, ExplicitVRLittleEndian)
        association = entity.associate(node.host, node.port, ae_title="AINODE")
        for number, asked in enumerate([{"originator_aet": "AINODE", "originator_id": 17}, {}]):
            status = association.send_c_store(instance(tmp_path / "in", number), **asked)
            assert status.Status == 0x0000
        association.release()
        first, second = node.ledger("instance.received")
        assert (first.detail["move_originator"], first.detail["move_message_id"]) == ("AINODE", 17)
        assert "move_originator" not in second.detail
        with node.store.read() as connection:
            assert "1 image(s) received from ARCHIVE, moved for AINODE" in tell(connection, uid("s"))


def test_same_bytes_again_is_success_and_nothing_new(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path) as node:
        for _ in range(3):
            assert send_paths(node.peer(), [file]).complete
        assert len(node.files()) == 1
        assert len(node.rows(tables.instances)) == 1
        assert len(node.ledger("instance.duplicate")) == 2


def test_same_uid_with_other_bytes_keeps_both(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        assert send_paths(node.peer(), [instance(tmp_path / "a")]).complete
        assert send_paths(node.peer(), [instance(tmp_path / "b", pixels=b"\1" * 512)]).complete
        assert send_paths(node.peer(), [instance(tmp_path / "c", PatientName="Corrected^Case")]).complete
        assert len(node.files()) == 3
        assert len(node.ledger("instance.conflict")) == len(node.ledger("instance.corrected")) == 1


PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"
UNKNOWN_CLASS = "1.2.840.10008.5.1.4.1.1.9999"
EXOTIC_SYNTAXES = {
    "private": "1.2.840.113619.5.2",
    "jpeg-xl": "1.2.840.10008.1.2.4.110",
    "htj2k": "1.2.840.10008.1.2.4.201",
    "mpeg4": "1.2.840.10008.1.2.4.102",
    "never-heard-of": "1.2.840.10008.1.2.4.999",
}


@pytest.mark.parametrize("mode", ["instance", "association"])
def test_an_identity_that_was_taken_back_is_known_to_the_files(tmp_path: Path, mode: str) -> None:
    """Merged and taken apart again: with the database lost the patient is still the one that was said last."""
    first = instance(tmp_path / "first", PatientID="A")
    merged = instance(tmp_path / "merged", PatientID="B")
    with running_node(tmp_path, receive={"mode": mode}) as node:
        for file in (first, merged, first):
            assert send_paths(node.peer(), [file]).complete
        wait_for(lambda: len(node.ledger("instance.corrected")) == 2, "both corrections")
        wait_for(lambda: len(node.ledger("association.closed")) == 3, "the ends")
    for leftover in (tmp_path / "data").glob("node.db*"):
        leftover.unlink()
    with running_node(tmp_path) as node:
        assert rescan(node.store, node.spool).indexed == 2
        assert [row.patient_id for row in node.rows(tables.instances) if row.active] == ["A"]


@pytest.mark.parametrize("sop_class", [PRIVATE_CLASS, UNKNOWN_CLASS, LABEL_MAP_SEG, MR])
def test_any_storage_class(tmp_path: Path, sop_class: str) -> None:
    file = instance(tmp_path / "in", sop_class=sop_class)
    with running_node(tmp_path) as node:
        assert send_paths(node.peer(), [file]).complete
        (stored,) = node.files()
        assert data_set(stored) == data_set(file)
        assert node.rows(tables.instances)[0].sop_class_uid == sop_class


def test_any_transfer_syntax_as_sent(tmp_path: Path) -> None:
    files = [
        instance(tmp_path / "in", name, transfer_syntax=syntax, SOPInstanceUID=uid(name))
        for name, syntax in EXOTIC_SYNTAXES.items()
    ]
    with running_node(tmp_path) as node:
        summary = send_paths(node.peer(), files)
        assert summary.complete, summary.reports
        stored = {row.transfer_syntax_uid for row in node.rows(tables.instances)}
        assert stored == set(EXOTIC_SYNTAXES.values())
        assert sorted(map(data_set, node.files())) == sorted(map(data_set, files))


def test_real_files_of_every_syntax(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "transfer_syntaxes_small"
    with running_node(tmp_path) as node:
        summary = send_paths(node.peer(), [folder])
        assert summary.count(Sent.STORED) >= 20
        refused = [report.detail for report in summary.reports if report.outcome is Sent.REFUSED]
        # Some files have no file meta information, two no Study Instance UID to be filed under.
        assert all("no DICOM file" in reason or "Study Instance UID" in reason for reason in refused), refused
        sent = {dataset_digest(report.path) for report in summary.reports if report.outcome is Sent.STORED}
        assert {dataset_digest(path) for path in node.files()} == sent


def test_explicit_vr_is_preferred(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path) as node:
        plain = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
        with ClientAssociation(node.peer(), [Proposal(MR, plain)]) as association:
            assert association.accepted == ((MR, "1.2.840.10008.1.2.1"),)
            send_object(association, read_object_file(file))


def store_raw(node: Node, file: Path, *, sop_class: str | None = None, sop_instance: str | None = None) -> Dataset:
    """C-STORE whose command may name another instance than its data set."""
    changed = file.with_suffix(".changed.dcm")
    meta = file_meta_bytes(
        sop_class_uid=sop_class or MR,
        sop_instance_uid=sop_instance or read_object_file(file).sop_instance_uid,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    changed.write_bytes(meta + data_set(file))
    proposal = Proposal(sop_class or MR, (ExplicitVRLittleEndian,))
    with ClientAssociation(node.peer(), [proposal]) as association, association.exchange() as connection:
        return connection.send_c_store(changed)


def test_command_and_data_set_must_agree(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path) as node:
        assert store_raw(node, file, sop_instance="1.2.3.4").Status == 0xA900
        assert store_raw(node, file, sop_class="1.2.840.10008.5.1.4.1.1.2").Status == 0xA900
        assert node.files() == []
        assert node.rows(tables.instances) == []
        assert list((node.settings.data_dir / "spool" / "incoming").iterdir()) == []


@pytest.mark.parametrize("hostile", ["../../../../tmp/evil", "1.2.3/4", "1..2", "1.2.3\\4.5.6", "A.B.C"])
def test_hostile_uids_become_no_path(tmp_path: Path, hostile: str) -> None:
    file = instance(tmp_path / "in")
    content = file.read_bytes()
    good = uid("s").encode()
    padded = hostile.encode().ljust(len(good), b" ")[: len(good)]
    evil = tmp_path / "in" / "evil.dcm"
    evil.write_bytes(content.replace(good, padded))
    with running_node(tmp_path) as node:
        with ClientAssociation(node.peer(), [Proposal(MR, ("1.2.840.10008.1.2.1",))]) as association:
            with pytest.raises(PeerRejectedObject) as caught:
                send_object(association, read_object_file(evil))
            assert caught.value.detail["status"] >> 12 == 0xC
            # The association is none the worse for it.
            send_object(association, read_object_file(file))
        assert len(node.files()) == 1
    assert not Path("/tmp/evil").exists()


def test_not_a_data_set_is_refused(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    broken = tmp_path / "in" / "broken.dcm"
    broken.write_bytes(file.read_bytes()[: dataset_offset(file)] + b"\xff" * 4000)
    with running_node(tmp_path) as node:
        with (
            ClientAssociation(node.peer(), [Proposal(MR, ("1.2.840.10008.1.2.1",))]) as association,
            pytest.raises(PeerRejectedObject),
        ):
            send_object(association, read_object_file(broken))
        assert node.files() == []


def test_full_disk_is_a700_and_recovers_without_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path) as node:
        node.spool.reserve_bytes = 1 << 60
        with ClientAssociation(node.peer(), [Proposal(MR, ("1.2.840.10008.1.2.1",))]) as association:
            with pytest.raises(PeerBusy) as caught:
                send_object(association, read_object_file(file))
            assert caught.value.detail["status"] == 0xA700
            assert node.files() == []
            node.spool.reserve_bytes = 0
            assert send_object(association, read_object_file(file)).status == 0x0000
        assert len(node.files()) == 1


def test_store_unavailable_is_never_success(tmp_path: Path) -> None:
    file = instance(tmp_path / "in")
    with running_node(tmp_path, store={"busy_timeout_seconds": 0.3}) as node:
        other = sqlite3.connect(node.settings.data_dir / "node.db", isolation_level=None)
        with ClientAssociation(node.peer(), [Proposal(MR, ("1.2.840.10008.1.2.1",))]) as association:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(PeerBusy) as caught:
                send_object(association, read_object_file(file))
            assert caught.value.detail["status"] == 0xA700
            other.execute("ROLLBACK")
            assert send_object(association, read_object_file(file)).status == 0x0000
        other.close()
        assert len(node.files()) == 1
        assert len(node.rows(tables.instances)) == 1


def test_too_large_an_object_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    big = instance(tmp_path / "in", 1, pixels=bytes(200_000))
    small = instance(tmp_path / "in", 2)
    with running_node(tmp_path, receive={"maximum_object_bytes": 100_000}) as node:
        summary = send_paths(node.peer(), [big, small])
        assert [report.outcome for report in summary.reports] == [Sent.REFUSED, Sent.STORED]
        assert len(node.files()) == 1


def test_a_sender_that_dies_half_way_leaves_nothing(tmp_path: Path) -> None:
    file = instance(tmp_path / "in", pixels=bytes(3_000_000))
    incoming = tmp_path / "data" / "spool" / "incoming"
    with running_node(tmp_path) as node:
        entity = AE("MODALITY")
        entity.add_requested_context(MR, "1.2.840.10008.1.2.1")
        association = entity.associate(node.host, node.port, ae_title="AINODE")
        connection = association.dul.socket.socket
        real_send = connection.send
        sent = 0

        class Dying:
            def __getattr__(self, name: str) -> object:
                return getattr(connection, name)

            def send(self, data: bytes) -> int:
                nonlocal sent
                sent += len(data)
                if sent > 1_000_000:
                    connection.shutdown(socket.SHUT_RDWR)
                    raise OSError("died")
                return int(real_send(data))

        association.dul.socket.socket = Dying()
        association.dimse_timeout = 2
        association.send_c_store(dcmread(file))
        wait_for(lambda: not list(incoming.iterdir()), "the part to be discarded")
        assert node.files() == []
        assert node.rows(tables.instances) == []
        # And the node goes on.
        assert send_paths(node.peer(), [file]).complete


def test_eight_senders_at_once(tmp_path: Path) -> None:
    files = [[instance(tmp_path / f"in{n}", k, study=f"study{n}") for k in range(12)] for n in range(8)]
    with running_node(tmp_path) as node:
        threads = [threading.Thread(target=send_paths, args=(node.peer(), batch)) for batch in files]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        expected = sorted(dataset_digest(file) for batch in files for file in batch)
        assert sorted(dataset_digest(path) for path in node.files()) == expected
        assert sorted(row.digest for row in node.rows(tables.instances)) == expected
        wait_for(lambda: len(node.ledger("association.closed")) == 8, "eight ends")


def test_two_receivers_on_one_inherited_socket(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    files = [instance(tmp_path / "in", number, study=f"s{number}") for number in range(12)]
    with (
        running_node(tmp_path, listening_socket=listener) as one,
        running_node(tmp_path, listening_socket=listener) as two,
    ):
        assert one.port == two.port == listener.getsockname()[1]
        for file in files:
            assert send_paths(one.peer(), [file]).complete
        assert len(one.files()) == 12
        # One stops; the socket stays open for the other.
        one.receiver.stop(0.2)
        assert send_paths(two.peer(), [instance(tmp_path / "in", 99, study="late")]).complete
    listener.close()


def test_receiver_process_main_finds_files_the_index_does_not_know(tmp_path: Path) -> None:
    files = [instance(tmp_path / "in", number) for number in range(3)]
    with running_node(tmp_path) as node:
        assert send_paths(node.peer(), files).complete
    (tmp_path / "data" / "node.db").unlink()
    for leftover in (tmp_path / "data").glob("node.db-*"):
        leftover.unlink()
    # Without a row, as in mode association after a kill between file and row.
    settings = node_settings(tmp_path, receive={"mode": "association"})
    from node.archive.engine import upgrade

    upgrade(settings)
    stop = threading.Event()
    thread = threading.Thread(target=run_receiver, args=(settings, stop), daemon=True)
    thread.start()
    try:
        peer = Node(settings, None, None, None, "127.0.0.1", settings.receive.port).peer()  # type: ignore[arg-type]

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((peer.host, peer.port)) == 0

        wait_for(answers, "the receiver", seconds=20)
        assert send_paths(peer, [instance(tmp_path / "in", 9)]).complete
    finally:
        stop.set()
        thread.join(20)
    with running_node(tmp_path) as node:
        rows = node.rows(tables.instances)
        assert len(rows) == 4
        assert {row.calling_ae_title for row in rows} == {"MODALITY"}


def test_an_echo_leaves_no_trace(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:
        with (
            ClientAssociation(node.peer(), [Proposal(str(Verification))]) as association,
            association.exchange() as connection,
        ):
            assert connection.send_c_echo().Status == 0x0000
        assert node.rows(tables.associations) == []
        assert node.rows(tables.ledger) == []


def test_garbage_and_silence_leave_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_scp, "_ASSOCIATION_REQUEST_SECONDS", 0.5)
    with running_node(tmp_path) as node:
        before = threading.active_count()
        sockets = []
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\xff\xff\xff\xff", b"\x04\x00\x00\x00\x00\x02aa", b""):
            connection = socket.create_connection((node.host, node.port))
            connection.sendall(greeting)
            sockets.append(connection)
        wait_for(lambda: threading.active_count() <= before, "every thread to end", seconds=15)
        for connection in sockets:
            connection.close()
        assert send_paths(node.peer(), [instance(tmp_path / "in")]).complete


def test_a_requestor_without_a_usable_context_is_answered(tmp_path: Path) -> None:
    """C-FIND is none of our services: the context is refused, not the association."""
    with running_node(tmp_path) as node:
        entity = AE("MODALITY")
        entity.requested_contexts = [
            build_context("1.2.840.10008.5.1.4.1.2.2.1", ImplicitVRLittleEndian),
            build_context(Verification),
        ]
        association = entity.associate(node.host, node.port, ae_title="AINODE")
        assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [str(Verification)]
        association.release()


def test_a_connection_taken_just_before_a_stop_still_gets_its_association(tmp_path: Path) -> None:
    """A node that restarts behind a shared port refuses nobody: what it has accepted it serves to the end."""
    with running_node(tmp_path) as node:
        with socket.create_connection((node.host, node.port), 10) as connection:
            time.sleep(0.3)  # accepted, and silent
            stopping = threading.Thread(target=node.receiver.stop, args=(10.0,))
            stopping.start()
            time.sleep(0.3)
            connection.sendall(associate_request())
            assert connection.recv(1) == b"\x02"
            assert stopping.is_alive()
            connection.sendall(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
            stopping.join(10)
        assert not stopping.is_alive()


def test_a_silent_connection_holds_no_stop_up(tmp_path: Path) -> None:
    with running_node(tmp_path) as node, socket.create_connection((node.host, node.port), 10):
        time.sleep(0.3)
        begun = time.monotonic()
        node.receiver.stop(30.0)
        assert time.monotonic() - begun < 15
