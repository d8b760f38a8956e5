"""What is fuzzed: each target takes any bytes and raises only where the product is wrong."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydicom import dcmread

from node.archive.familiar_headers import FamiliarHeaders
from node.archive.header_scan import scan_header
from node.archive.headers import InstanceHeader, read_header
from node.archive.part10 import dataset_offset, file_meta_bytes, read_file_meta
from node.archive.placing import checked_uid
from node.dicom.store_command import echo_response, read_echo_request, read_store_request, store_response
from node.errors import ObjectRejected, SpoolDamaged
from tests.network import Node, instance, running_node
from tests.wire import (
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    LAST,
    RELEASE_REQUEST,
    WirePeer,
    associate_request,
    data,
    echo_command,
    store_command,
    store_message,
)

SYNTAXES = (EXPLICIT, IMPLICIT, DEFLATED, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.90", "1.2.840.113619.5.2")
Target = Callable[[bytes], None]
_PATIENCE_SECONDS = 15.0


class Ready(NamedTuple):
    """A target with bytes to begin from."""

    run: Target
    corpus: tuple[bytes, ...]


def images(folder: Path) -> list[tuple[str, bytes]]:
    """SOP Instance UID and data set of a few generated images."""
    files = [
        instance(folder, "plain"),
        instance(folder, "diffusion", DiffusionBValue=1000.0, ImageType=["ORIGINAL", "PRIMARY", "DIFFUSION"]),
        instance(folder, "words", SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎"),
        instance(folder, "frames", NumberOfFrames=3, SequenceName="*ep_b1000t"),
    ]
    return [(str(dcmread(file).SOPInstanceUID), file.read_bytes()[dataset_offset(file) :]) for file in files]


@contextmanager
def part10(folder: Path) -> Iterator[Ready]:
    """File meta information."""

    def run(content: bytes) -> None:
        try:
            read_file_meta(io.BytesIO(content))
        except SpoolDamaged:
            return

    yield Ready(run, tuple(_meta(syntax) for syntax in SYNTAXES))


@contextmanager
def header(folder: Path) -> Iterator[Ready]:
    """The first byte chooses the transfer syntax, the others are the data set."""

    def run(content: bytes) -> None:
        syntax = SYNTAXES[content[0] % len(SYNTAXES)] if content else EXPLICIT
        try:
            found = read_header(io.BytesIO(_meta(syntax) + content[1:]))
        except ObjectRejected:
            return
        fits_a_database(found)

    yield Ready(run, tuple(bytes([at]) + content for at in range(2) for _, content in images(folder)))


@contextmanager
def scan(folder: Path) -> Iterator[Ready]:
    """The scanner of the first bytes, as ``header``; what it says is what pydicom says, or pydicom refuses the whole."""

    before = [content for _, content in images(folder)]

    def run(content: bytes) -> None:
        syntax = SYNTAXES[content[0] % len(SYNTAXES)] if content else EXPLICIT
        found = scan_header(content[1:], syntax, whole=True)
        # Whatever came before, who remembers it says the same.
        familiar = FamiliarHeaders()
        for known in (*before, content[1:], content[1:]):
            remembered = familiar.scan(known, syntax, whole=True)
        assert remembered == found
        if found is None:
            return
        assert remembered is not None
        assert not remembered.routing_text or json.loads(remembered.routing_text) == found.routing
        fits_a_database(found)
        try:
            expected = read_header(io.BytesIO(_meta(syntax) + content[1:]))
        except ObjectRejected:
            return
        assert found == expected

    yield Ready(run, tuple(bytes([at]) + content for at in range(2) for content in before))


@contextmanager
def command(folder: Path) -> Iterator[Ready]:
    """Command sets that the lane reads by itself."""

    def run(content: bytes) -> None:
        store, echo = read_store_request(content, 1), read_echo_request(content, 1)
        assert store is None or echo is None
        if store is not None:
            for uid in (store.sop_class_uid, store.sop_instance_uid):
                checked_uid(uid, "UID")
            store_response(store, 0xA700, "no room")
        if echo is not None:
            echo_response(echo)

    yield Ready(run, (store_command("1.2.3.4"), echo_command()))


@contextmanager
def receiver(folder: Path) -> Iterator[Ready]:
    """A live receiver: the first byte chooses whether an association stands first, the others go to its socket."""
    with running_node(folder, receive={"idle_timeout_seconds": 2.0}) as node:
        yield Ready(lambda content: _converse(node, content), tuple(_conversations(folder)))
        with WirePeer(node.port) as peer:
            assert peer.echo() == 0, "the receiver serves nobody any more"


TARGETS = {"part10": part10, "header": header, "scan": scan, "command": command, "receiver": receiver}


def fits_a_database(found: InstanceHeader) -> None:
    """Every text is one that SQLite and PostgreSQL take, and the facts for routing are JSON."""
    texts = [found.patient_id, found.patient_name, found.accession_number, found.modality, found.patient_birth_date]
    for text in [*texts, json.dumps(found.routing, allow_nan=False, ensure_ascii=False)]:
        assert "\0" not in text
        text.encode("utf-8")


def _converse(node: Node, content: bytes) -> None:
    established = bool(content) and content[0] % 4 != 0
    rows = len(node.files())
    with _connected(node, established=established) as peer:
        successes = 0
        peer.send(content[1:])
        peer.send(b"")
        try:
            peer.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the receiver was faster
        while (answer := peer.answer()).kind:
            successes += answer.status == 0x0000
    assert len(node.files()) >= rows, "a file is gone"
    # Unless it was asked to, nothing is acknowledged.
    assert not successes or content.count(b"\x04") > 0


@contextmanager
def _connected(node: Node, *, established: bool) -> Iterator[WirePeer]:
    """A connection, with an association where one is wanted. One that is turned away for now tries again, as peers do:
    on a busy machine those that have just ended are still counted."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with WirePeer(node.port, None, seconds=15) as peer:
            if not established:
                yield peer
                return
            peer.send(associate_request())
            answer = peer.answer()
            if answer.kind == ASSOCIATE_AC:
                yield peer
                return
        assert answer.kind == ASSOCIATE_RJ and time.monotonic() < deadline, (
            f"a proper request was not accepted: {answer}"
        )
        time.sleep(0.1)


def _conversations(folder: Path) -> Iterator[bytes]:
    for sop, content in images(folder)[:2]:
        yield b"\x01" + store_message(sop, content) + RELEASE_REQUEST
        yield b"\x01" + store_message(sop, content, fragment_bytes=100)
        yield b"\x01" + data(3, COMMAND, store_command(sop)[:50]) + data(3, COMMAND | LAST, store_command(sop)[50:])
        yield b"\x00" + associate_request() + store_message(sop, content) + RELEASE_REQUEST
    yield b"\x01" + data(1, COMMAND | LAST, echo_command()) + RELEASE_REQUEST
    yield b"\x00" + associate_request()


def _meta(syntax: str) -> bytes:
    return file_meta_bytes(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=syntax,
        sending_ae_title="FUZZ",
        receiving_ae_title="AINODE",
    )
