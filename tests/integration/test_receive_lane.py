"""P-DATA in every shape, right and wrong, with the receiving lane and without it: the same files, the same answers."""

from __future__ import annotations

import gc
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pynetdicom.dul import DULServiceProvider

from node.archive import tables
from node.archive.part10 import dataset_offset
from node.dicom import storage_scp
from node.dicom.receiving_lane import ReceivingLane, contract_violations
from node.dicom.storage_scp import Receiver
from node.dicom.storage_scu import read_object_file, send_paths
from tests.network import Node, instance, running_node, wait_for
from tests.raw_modality import (
    ABORT,
    COMMAND,
    DATA,
    ECHO_CONTEXT,
    IMAGE_CONTEXT,
    LAST,
    RELEASE,
    RawModality,
    data_fragments,
    fragment,
    p_data,
    store_command,
)

pytestmark = pytest.mark.usefixtures("lane")


def parts_of(file: Path) -> tuple[bytes, bytes]:
    """The command fragment for a file, and its data set."""
    command = store_command(read_object_file(file).sop_instance_uid)
    return fragment(IMAGE_CONTEXT, COMMAND | LAST, command), file.read_bytes()[dataset_offset(file) :]


def one_by_one(command: bytes, data: bytes) -> bytes:
    return p_data(command) + b"".join(p_data(part) for part in data_fragments(data, 16370))


def in_one_pdu(command: bytes, data: bytes) -> bytes:
    return p_data(command, *data_fragments(data, 10_000))


def tiny_fragments(command: bytes, data: bytes) -> bytes:
    return p_data(command) + b"".join(p_data(part) for part in data_fragments(data, 3))


def many_in_a_pdu(command: bytes, data: bytes) -> bytes:
    parts = data_fragments(data, 97)
    return p_data(command) + b"".join(p_data(*parts[at : at + 50]) for at in range(0, len(parts), 50))


def large_pdus(command: bytes, data: bytes) -> bytes:
    return p_data(command) + b"".join(p_data(part) for part in data_fragments(data, 262_138))


def empty_last_fragment(command: bytes, data: bytes) -> bytes:
    return p_data(command) + p_data(fragment(IMAGE_CONTEXT, DATA, data)) + p_data(fragment(IMAGE_CONTEXT, LAST, b""))


def command_in_two(command: bytes, data: bytes) -> bytes:
    content = command[6:]
    halves = fragment(IMAGE_CONTEXT, COMMAND, content[:50]), fragment(IMAGE_CONTEXT, COMMAND | LAST, content[50:])
    return p_data(halves[0]) + p_data(halves[1]) + b"".join(p_data(part) for part in data_fragments(data, 16370))


SHAPES = [one_by_one, in_one_pdu, tiny_fragments, many_in_a_pdu, large_pdus, empty_last_fragment, command_in_two]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_fragmentation_gives_the_same_bytes(tmp_path: Path, shape: Callable[[bytes, bytes], bytes]) -> None:
    size = 3_000 if shape is tiny_fragments else 240_000
    files = [instance(tmp_path / "in", number, pixels=os.urandom(size)) for number in range(3)]
    dice = random.Random(3)
    with running_node(tmp_path) as node, RawModality(node) as modality:
        for file in files:
            message = shape(*parts_of(file))
            while message:
                count = dice.choice([1, 5, 11, 12, 13, 4_000, 70_000, 500_000])
                modality.socket.sendall(message[:count])
                message = message[count:]
            assert modality.status() == 0x0000
            assert modality.echo() == 0x0000
        modality.release()
        expected = sorted(file.read_bytes()[dataset_offset(file) :] for file in files)
        assert sorted(path.read_bytes()[dataset_offset(path) :] for path in node.files()) == expected
        wait_for(lambda: node.ledger("association.closed"), "the association's end")


def ends_with(*tail: bytes) -> Callable[[bytes, bytes], bytes]:
    """A message that begins well and goes on with ``tail``."""

    def message(command: bytes, data: bytes) -> bytes:
        return p_data(command) + p_data(fragment(IMAGE_CONTEXT, DATA, data[:500])) + b"".join(tail)

    return message


LIES = {
    "a PDU of two gigabytes": ends_with(struct.pack(">BBL", 4, 0, 1 << 31)),
    "a PDU of nothing": ends_with(p_data() + p_data(fragment(IMAGE_CONTEXT, DATA, b"x", length=1))),
    "a fragment longer than its PDU": ends_with(p_data(fragment(IMAGE_CONTEXT, DATA, b"x" * 100, length=4000))),
    "a fragment of minus one": ends_with(p_data(fragment(IMAGE_CONTEXT, DATA, b"x" * 100, length=0xFFFFFFFF))),
    "a fragment of zero": ends_with(p_data(fragment(IMAGE_CONTEXT, DATA, b"x" * 100, length=0))),
    "a PDU of no known kind": ends_with(struct.pack(">BBL", 0x55, 0, 10) + bytes(10)),
    "an association request": ends_with(struct.pack(">BBL", 0x01, 0, 10) + bytes(10)),
    "an abort": ends_with(ABORT),
    "rubbish": ends_with(os.urandom(5000)),
    "a context nobody asked for": lambda command, data: (
        p_data(fragment(99, COMMAND | LAST, command[6:])) + p_data(fragment(99, LAST, data))
    ),
    "a command that is none": lambda command, data: p_data(fragment(3, COMMAND | LAST, b"\x01" * 60)) + bytes(2000),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_peer_that_lies_costs_one_association(tmp_path: Path, lie: str) -> None:
    file = instance(tmp_path / "in", pixels=bytes(20_000))
    with running_node(tmp_path, receive={"idle_timeout_seconds": 3}) as node, RawModality(node) as honest:
        with RawModality(node) as liar:
            liar.socket.sendall(LIES[lie](*parts_of(file)))
            assert liar.is_over()
        nothing_remains(node)
        honest.socket.sendall(one_by_one(*parts_of(file)))
        assert honest.status() == 0x0000
        honest.release()
        assert len(node.files()) == 1


def nothing_remains(node: Node) -> None:
    incoming = node.settings.data_dir / "spool" / "incoming"
    wait_for(lambda: not list(incoming.iterdir()), "the part to go")
    assert node.files() == []
    assert node.rows(tables.instances) == []


INTERRUPTIONS = {
    "data of another context": p_data(fragment(ECHO_CONTEXT, DATA, b"abc")),
    "a second command": p_data(fragment(IMAGE_CONTEXT, COMMAND | LAST, store_command("1.2.3"))),
    "more behind the last": p_data(fragment(IMAGE_CONTEXT, LAST, b""), fragment(IMAGE_CONTEXT, DATA, b"abc")),
}


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_a_data_set_is_not_interrupted(tmp_path: Path, lane: str, interruption: str) -> None:
    if lane == "stock":
        pytest.skip("pynetdicom takes it for part of the data set, which then does not fit its request")
    file = instance(tmp_path / "in", pixels=bytes(20_000))
    with running_node(tmp_path) as node, RawModality(node) as modality:
        modality.socket.sendall(ends_with(INTERRUPTIONS[interruption])(*parts_of(file)))
        assert modality.is_over()
        nothing_remains(node)


def test_release_in_the_middle_of_an_object(tmp_path: Path) -> None:
    with running_node(tmp_path) as node, RawModality(node) as modality:
        modality.socket.sendall(ends_with(RELEASE)(*parts_of(instance(tmp_path / "in", pixels=bytes(20_000)))))
        assert modality.pdu()[:1] == b"\x06"
        nothing_remains(node)


def test_drop_by_drop_is_no_way_to_hold_an_association(tmp_path: Path, lane: str) -> None:
    command, data = parts_of(instance(tmp_path / "in", pixels=bytes(20_000)))
    with running_node(tmp_path, receive={"maximum_object_seconds": 0.5}) as node, RawModality(node) as modality:
        # Within one PDU the lane alone keeps time.
        drops = (
            one_by_one(command, data)
            if lane == "auto"
            else p_data(command) + b"".join(p_data(part) for part in data_fragments(data, 1))
        )
        modality.socket.sendall(drops[:2000])
        step = 1 if lane == "auto" else 13
        started = time.monotonic()
        at = 2000
        try:
            while time.monotonic() - started < 8:
                modality.socket.sendall(drops[at : at + step])
                at += step
                time.sleep(0.05)
        except OSError:
            pass  # the receiver has closed it, which is what is waited for
        assert time.monotonic() - started < 5
        nothing_remains(node)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_request_drop_by_drop_is_silence(tmp_path: Path, in_pieces: bool) -> None:
    """A command set byte by byte, in one PDU or in one PDU each: no longer than silence, or than an object may take."""
    request = store_command("1.2.3")
    drops = (
        [p_data(fragment(IMAGE_CONTEXT, COMMAND, request[at : at + 1])) for at in range(len(request))]
        if in_pieces
        else [bytes([each]) for each in p_data(fragment(IMAGE_CONTEXT, COMMAND | LAST, request))]
    )
    limit = {"maximum_object_seconds": 0.5} if in_pieces else {"idle_timeout_seconds": 0.5}
    with running_node(tmp_path, receive=limit) as node, RawModality(node) as modality:
        began = time.monotonic()
        with pytest.raises(OSError):
            for drop in drops:
                modality.socket.sendall(drop)
                time.sleep(0.05)
        assert time.monotonic() - began < 4


def test_nobody_holds_an_association_for_ever(tmp_path: Path) -> None:
    """A peer that does something all the time is never silent, and must give its place back all the same."""
    with running_node(tmp_path, receive={"maximum_association_seconds": 0.6}) as node, RawModality(node) as modality:
        began = time.monotonic()
        with suppress(ConnectionError, AssertionError):
            while time.monotonic() < began + 10:
                assert modality.echo() == 0
                time.sleep(0.02)
        assert 0.4 < time.monotonic() - began < 8
        with RawModality(node) as other:
            assert other.echo() == 0


@pytest.mark.parametrize("begun", [False, True])
def test_silence_ends_an_association(tmp_path: Path, begun: bool) -> None:
    with running_node(tmp_path, receive={"idle_timeout_seconds": 0.5}) as node, RawModality(node) as modality:
        if begun:
            message = one_by_one(*parts_of(instance(tmp_path / "in", pixels=bytes(20_000))))
            modality.socket.sendall(message[:5000])
        started = time.monotonic()
        assert modality.is_over()
        assert time.monotonic() - started < 4
        nothing_remains(node)


def test_memory_stays_flat(tmp_path: Path, lane: str) -> None:
    if lane == "stock":
        pytest.skip("pynetdicom holds a PDU and its copies, which is what the lane is for")
    file = instance(tmp_path / "in", pixels=bytes(1000))
    command, data = parts_of(file)
    block = p_data(fragment(IMAGE_CONTEXT, DATA, bytes(60_000)))
    with running_node(tmp_path) as node, RawModality(node) as modality:
        tracemalloc.start()
        try:
            modality.socket.sendall(p_data(command) + p_data(fragment(IMAGE_CONTEXT, DATA, data)))
            for _ in range(500):
                modality.socket.sendall(block)
            modality.socket.sendall(p_data(fragment(IMAGE_CONTEXT, LAST, b"")))
            modality.status()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 5_000_000, f"{peak} bytes for an object of 30 MB"


def test_associations_leave_no_descriptor(tmp_path: Path) -> None:
    with running_node(tmp_path) as node:

        def descriptors() -> int:
            gc.collect()
            return len(list(Path("/proc/self/fd").iterdir()))

        with RawModality(node) as first:
            first.echo()
            first.release()
        before = descriptors()
        for number in range(20):
            with RawModality(node) as modality:
                modality.echo()
                if number % 2:
                    modality.release()
        wait_for(lambda: descriptors() <= before, "descriptors to be closed")


def test_the_lane_is_what_carries(tmp_path: Path, lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = Receiver._on_store

    def counted(self: Receiver, event: object) -> object:
        calls.append(event)
        return real(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Receiver, "_on_store", counted)
    with running_node(tmp_path) as node:
        assert send_paths(node.peer(), [instance(tmp_path / "in", number) for number in range(3)]).complete
        assert len(node.files()) == 3
    assert len(calls) == (0 if lane == "auto" else 3)


def test_the_installed_library_keeps_the_contract() -> None:
    assert contract_violations() == []


def test_without_the_contract_the_library_does_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = DULServiceProvider._is_transport_event

    def changed(self: DULServiceProvider) -> bool:
        return real(self)

    monkeypatch.setattr(DULServiceProvider, "_is_transport_event", changed)
    assert contract_violations() == [
        "DULServiceProvider._is_transport_event does not use _read_pdu_data",
        "DULServiceProvider._is_transport_event does not use ready",
    ]
    made: list[object] = []
    monkeypatch.setattr(storage_scp, "ReceivingLane", lambda *arguments: made.append(ReceivingLane))
    with running_node(tmp_path) as node:
        assert send_paths(node.peer(), [instance(tmp_path / "in")]).complete
    assert made == []
