"""Peers that lie, stop half way or send nonsense: each costs its own association, and the next peer is served."""

from __future__ import annotations

import itertools
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_sr.errors import SeriesRejected
from dicom_sr.series import load_study
from node.archive.part10 import dataset_offset
from tests.network import MR, instance, uid, wait_for
from tests.receiver_process import ReceiverProcesses, receivers
from tests.wire import (
    ABORT_REQUEST,
    COMMAND,
    DEFLATED,
    IMPLICIT,
    LAST,
    NO_DATA_SET,
    P_DATA,
    VERIFICATION,
    WirePeer,
    associate_request,
    command,
    data,
    item,
    padded,
    pdu,
    pdv,
    store_command,
    store_message,
)

pytestmark = pytest.mark.slow

IDLE_SECONDS = 1.0
MEMORY_BYTES = 100 * 1024 * 1024
"""What a receiver may grow by at its worst moment, whatever it is sent."""

numbers = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcesses]:
    """One receiver for every test: what one peer does must not be felt by the next."""
    with receivers(tmp_path_factory.mktemp("hostile"), receive={"idle_timeout_seconds": IDLE_SECONDS}) as running:
        sop, content = image()
        with WirePeer(running.port) as peer:
            assert peer.store(sop, content) == 0
            peer.release()
        yield running


@pytest.fixture(autouse=True)
def unharmed(node: ReceiverProcesses) -> Iterator[None]:
    """Afterwards: alive, no descriptor, thread or part left, memory flat, a good peer served, nothing half indexed."""
    node.forget_peak()
    before = node.descriptors(), node.threads(), node.memory_bytes()
    yield
    assert node.alive, node.log()[-3000:]
    serves(node)
    wait_for(lambda: node.descriptors() <= before[0] + 1, f"{before[0]} descriptors", seconds=20)
    wait_for(lambda: node.threads() <= before[1], f"{before[1]} threads", seconds=20)
    assert node.parts() == []
    assert node.peak_bytes() - before[2] < MEMORY_BYTES


def image(*, pixels: bytes = bytes(512)) -> tuple[str, bytes]:
    """SOP Instance UID and data set of an instance nobody has sent yet."""
    with tempfile.TemporaryDirectory() as scratch:
        file = instance(Path(scratch), next(numbers), study="hostile", pixels=pixels)
        return str(dcmread(file).SOPInstanceUID), file.read_bytes()[dataset_offset(file) :]


def serves(node: ReceiverProcesses) -> None:
    """A well-behaved peer gets its image in."""
    sop, content = image()
    with WirePeer(node.port) as peer:
        assert peer.store(sop, content) == 0
        assert peer.echo() == 0
        peer.release()
    assert node.rows("SELECT count(*) FROM instances WHERE sop_instance_uid = ?", sop) == [(1,)]


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """An explicit VR element in its long form."""
    size = len(value) if length is None else length
    return struct.pack("<HH2sxxL", tag >> 16, tag & 0xFFFF, vr, size) + value


def with_element(content: bytes, added: bytes, *, before: bytes = b"\x28\x00\x10\x00") -> bytes:
    """The data set with something put in front of Rows."""
    at = content.index(before)
    return content[:at] + added + content[at:]


UNDEFINED = 0xFFFFFFFF
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
EMPTY_ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence …, all of undefined length."""
    opened = element(0x00081140, b"SQ", b"", length=UNDEFINED) + ITEM
    return opened * depth + (ITEM_END + SEQUENCE_END) * depth


def items(count: int) -> bytes:
    """A sequence of nothing but empty items."""
    return element(0x00081140, b"SQ", b"", length=UNDEFINED) + EMPTY_ITEM * count + SEQUENCE_END


# -- data sets ------------------------------------------------------------------------------------------------------

DATA_SETS = {
    "one level of sequence": (lambda content: with_element(content, nested(1)), {0x0000}),
    "sequences nested 5000 deep": (lambda content: with_element(content, nested(5000)), {0x0000, 0xC000}),
    "a sequence that never ends": (
        lambda content: with_element(content, element(0x00081140, b"SQ", b"", length=UNDEFINED) + ITEM),
        {0x0000, 0xC000},
    ),
    "a million empty items": (lambda content: with_element(content, items(1_000_000)), {0xC000}),
    "a text of four gigabytes": (
        lambda content: with_element(content, element(0x0020000F, b"UT", b"x", length=0xFFFFFFF0)),
        {0x0000, 0xC000},
    ),
    "zero bytes": (lambda content: bytes(70_000), {0xC000}),
    "one byte": (lambda content: b"\x08", {0xC000}),
    "half a header": (lambda content: content[: content.index(b"\x28\x00\x10\x00") // 2], {0xC000}),
    "random bytes": (lambda content: bytes((at * 2654435761) >> 7 & 255 for at in range(50_000)), {0xC000}),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_set(node: ReceiverProcesses, name: str) -> None:
    make, statuses = DATA_SETS[name]
    sop, content = image()
    with WirePeer(node.port, seconds=30) as peer:
        assert peer.store(sop, make(content)) in statuses
        # The same association goes on.
        assert peer.echo() == 0
        peer.release()


GROWING = {
    "decimal numbers": (0x00200037, b"1\\" * 4_000_000),
    "words": (0x00080008, b"A\\" * 4_000_000),
    "character sets": (0x00080005, b"ISO_IR 100\\" * 1_000_000),
    "items": (0x00081032, EMPTY_ITEM * 1_000_000),
    "a name": (0x00100010, b"A" * 8_000_000),
    "private numbers": (0x0019100C, b"1\\" * 4_000_000),
}


@pytest.mark.parametrize("name", GROWING)
def test_a_value_that_is_many_times_its_size_in_memory(node: ReceiverProcesses, name: str) -> None:
    """Implicit VR allows a value of four gigabytes where explicit VR allows 64 KiB; ``unharmed`` watches the memory."""
    tag, value = GROWING[name]
    sop = f"1.2.3.4.{next(numbers)}"
    elements = {
        0x00080016: padded(MR),
        0x00080018: padded(sop),
        0x00080060: b"MR",
        0x00190010: b"SIEMENS MR HEADER ",
        0x0020000D: b"1.2.3.4\0",
        0x0020000E: b"1.2.3.4.5\0",
        tag: value,
    }
    content = b"".join(
        struct.pack("<HHL", at >> 16, at & 0xFFFF, len(elements[at])) + elements[at] for at in sorted(elements)
    )
    with WirePeer(node.port, ((VERIFICATION, IMPLICIT), (MR, IMPLICIT)), seconds=30) as peer:
        assert peer.store(sop, content) == (0x0000 if tag == 0x0019100C else 0xC000)
        peer.release()
    assert all(row[0] < 10_000 for row in node.rows("SELECT length(headers) FROM instances"))


def test_deflated_ten_gigabytes(node: ReceiverProcesses) -> None:
    sop, content = image()
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    bomb = b"".join([deflater.compress(content), *(deflater.compress(block) for _ in range(300))]) + deflater.flush()
    # Deflate cannot say more than a thousandfold; what repeats is repeated by hand.
    with WirePeer(node.port, ((VERIFICATION, IMPLICIT), (MR, DEFLATED)), seconds=30) as peer:
        assert peer.store(sop, bomb) == 0
        assert peer.store(sop, content) == 0xC000, "not deflated"
        peer.release()


@pytest.mark.parametrize("said", [IMPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.90", DEFLATED])
def test_other_encoding_than_negotiated(node: ReceiverProcesses, said: str) -> None:
    """Explicit VR bytes on a context for something else: stored as they came where the header can be read, or refused."""
    sop, content = image()
    with WirePeer(node.port, ((VERIFICATION, IMPLICIT), (MR, said))) as peer:
        assert peer.store(sop, content) in {0x0000, 0xC000}
        peer.release()


def test_a_header_of_65535_by_65535(node: ReceiverProcesses, tmp_path: Path) -> None:
    """Stored, because nothing is decoded on arrival; refused by who would have to allocate it."""
    file = instance(tmp_path, next(numbers), study="huge", Rows=65535, Columns=65535, NumberOfFrames=2_000_000_000)
    content = file.read_bytes()[dataset_offset(file) :]
    with WirePeer(node.port) as peer:
        assert peer.store(str(dcmread(file).SOPInstanceUID), content) == 0
        peer.release()
    study = load_study([file])
    assert study.volumes == ()
    assert all(isinstance(rejected.error, SeriesRejected) for rejected in study.rejected)


PATHS = ["../../../../tmp/evil", "/etc/passwd", "1.2.3/../../4", "1.2\x00.3", "..", ".", "1..2", "C:\\evil", "1.2.3\n4"]


@pytest.mark.parametrize("hostile", PATHS)
def test_path_tricks(node: ReceiverProcesses, hostile: str) -> None:
    sop, content = image()
    before = sorted(path for path in node.settings.data_dir.rglob("*") if "spool" in path.parts)
    study = uid("hostile").encode()
    value = hostile.encode().ljust(len(study) + len(study) % 2, b"\0")[: len(study) + len(study) % 2]
    with WirePeer(node.port) as peer:
        # None: no UID at all, for which the association may end.
        assert peer.store(hostile, content) in {0xA900, 0xC000, None}
    with WirePeer(node.port) as peer:
        assert peer.store(sop, content.replace(padded(uid("hostile")), value)) in {0xA900, 0xC000}
        peer.release()
    assert sorted(path for path in node.settings.data_dir.rglob("*") if "spool" in path.parts) == before


def test_memory_with_a_large_object(node: ReceiverProcesses) -> None:
    sop, content = image(pixels=bytes(200_000_000))
    before = node.memory_bytes()
    with WirePeer(node.port, seconds=60) as peer:
        peer.send(data(3, COMMAND | LAST, store_command(sop)))
        for at in range(0, len(content), 130_000):
            last = LAST if at + 130_000 >= len(content) else 0
            peer.send(data(3, last, content[at : at + 130_000]))
        assert peer.answer().status == 0
        peer.release()
    assert node.peak_bytes() - before < MEMORY_BYTES


# -- messages -------------------------------------------------------------------------------------------------------


def message(name: str) -> bytes:
    sop, content = image()
    whole = store_command(sop)
    return {
        "a command set of garbage": data(1, COMMAND | LAST, b"\xff" * 300),
        "an empty command set": data(1, COMMAND | LAST, b""),
        "a command set without a command": data(1, COMMAND | LAST, command([(0x0110, b"\x01\x00")])),
        "an unknown command": data(1, COMMAND | LAST, command([(0x0100, b"\xff\x7f"), (0x0800, b"\x01\x01")])),
        "a command whose element is four gigabytes": data(
            3, COMMAND | LAST, whole[:-40] + struct.pack("<HHL", 0, 0x1000, 0xFFFFFFF0) + b"1.2"
        ),
        "a command without its UIDs": data(
            3, COMMAND | LAST, command([(0x0100, b"\x01\x00"), (0x0110, b"\x01\x00"), (0x0800, b"\x01\x00")])
        )
        + data(3, LAST, content),
        "a data set without a command": data(3, LAST, content),
        "a data set announced and a command sent": data(3, COMMAND | LAST, whole) * 2,
        "a context that was not accepted": data(77, COMMAND | LAST, whole) + data(77, LAST, content),
        "an even context": data(2, COMMAND | LAST, whole) + data(2, LAST, content),
        "store on the context of echo": data(1, COMMAND | LAST, whole) + data(1, LAST, content),
        "an endless command": b"".join(data(1, COMMAND, bytes(16000)) for _ in range(3000)),
        "a PDU type that does not exist": pdu(9, bytes(20)),
        "a second association request": associate_request(),
        "an answer nobody asked for": pdu(2, bytes(100)),
        "a value longer than its PDU": pdu(P_DATA, pdv(3, COMMAND | LAST, whole, length=len(whole) + 5000)),
        "a value shorter than its PDU": pdu(P_DATA, pdv(3, COMMAND | LAST, whole, length=10)),
        "a value of length zero": pdu(P_DATA, struct.pack(">L", 0)),
        "a value of length one": pdu(P_DATA, struct.pack(">LB", 1, 3)),
        "a value of four gigabytes": pdu(P_DATA, pdv(3, COMMAND | LAST, whole, length=0xFFFFFFFF)),
        "a PDU of four gigabytes": pdu(P_DATA, pdv(3, COMMAND | LAST, whole), length=0xFFFFFFFF),
        "a PDU of sixteen megabytes": pdu(P_DATA, bytes(16 << 20)),
        "an empty PDU": pdu(P_DATA, b""),
        "a PDU that stops half way": store_message(sop, content)[:-100],
        "a text protocol": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" * 100,
        "abort in the middle": store_message(sop, content)[:-100] + ABORT_REQUEST,
        "release in the middle": data(3, COMMAND | LAST, whole) + bytes.fromhex("05000000000400000000"),
    }[name]


MESSAGES = [
    "a command set of garbage",
    "an empty command set",
    "a command set without a command",
    "an unknown command",
    "a command whose element is four gigabytes",
    "a command without its UIDs",
    "a data set without a command",
    "a data set announced and a command sent",
    "a context that was not accepted",
    "an even context",
    "store on the context of echo",
    "an endless command",
    "a PDU type that does not exist",
    "a second association request",
    "an answer nobody asked for",
    "a value longer than its PDU",
    "a value shorter than its PDU",
    "a value of length zero",
    "a value of length one",
    "a value of four gigabytes",
    "a PDU of four gigabytes",
    "a PDU of sixteen megabytes",
    "an empty PDU",
    "a PDU that stops half way",
    "a text protocol",
    "abort in the middle",
    "release in the middle",
]


@pytest.mark.parametrize("name", MESSAGES)
def test_message(node: ReceiverProcesses, name: str) -> None:
    """The association ends, by an answer that is no success or within the idle time; nothing is stored."""
    rows = node.rows("SELECT count(*) FROM instances")
    with WirePeer(node.port, seconds=4 * IDLE_SECONDS) as peer:
        peer.send(message(name))
        statuses = []
        try:
            while (answer := peer.answer()).kind:
                statuses.append(answer.status)
        except TimeoutError:
            pytest.fail("the association neither ended nor was answered")
    assert 0x0000 not in statuses
    assert node.rows("SELECT count(*) FROM instances") == rows


def test_a_command_that_never_ends(node: ReceiverProcesses) -> None:
    """The connection is reset after some 64 KiB; what a library collects, a peer could fill the memory with."""
    block = data(1, COMMAND, bytes(100_000)) * 10
    with WirePeer(node.port) as peer, pytest.raises(ConnectionError):
        for _ in range(100):
            peer.socket.sendall(block)


def test_requests_without_waiting_for_answers(node: ReceiverProcesses) -> None:
    """Requests that the lane leaves to the library wait with an open file each: not more than some."""
    sop, content = image()
    rows = node.rows("SELECT count(*) FROM instances")
    # A request that says it is an answer: odd, and so the library's.
    odd = [(0x0100, b"\1\0"), (0x0110, b"\1\0"), (0x0120, b"\0\0"), (0x0800, b"\1\0")]
    store = command([(0x0002, padded(MR)), *odd, (0x1000, padded(sop))])
    request = data(3, COMMAND | LAST, store) + data(3, LAST, content)
    before, most = node.descriptors(), 0
    with WirePeer(node.port) as peer, pytest.raises(ConnectionError):
        for _ in range(100):
            peer.socket.sendall(request * 50)
            most = max(most, node.descriptors() - before)
    assert most < 40
    assert node.rows("SELECT count(*) FROM instances")[0][0] <= rows[0][0] + 1


COMMITMENT = "1.2.840.10008.1.20.1"


def report(content: bytes) -> bytes:
    """N-EVENT-REPORT with a commitment answer."""
    elements = [(0x0002, padded(COMMITMENT)), (0x0100, b"\0\1"), (0x0110, b"\1\0"), (0x0800, b"\1\0")]
    whole = command([*elements, (0x1000, padded(COMMITMENT + ".1")), (0x1002, b"\1\0")])
    fragments = [content[at : at + 16000] for at in range(0, len(content), 16000)]
    return data(3, COMMAND | LAST, whole) + b"".join(
        data(3, LAST if at == len(fragments) - 1 else 0, fragment) for at, fragment in enumerate(fragments)
    )


def test_a_report_of_a_million_items(node: ReceiverProcesses) -> None:
    """What the library would make as many objects of."""
    sequence = struct.pack("<HHL", 8, 0x1199, UNDEFINED)
    with WirePeer(node.port, ((VERIFICATION, IMPLICIT), (COMMITMENT, IMPLICIT))) as peer:
        peer.send(report(sequence + EMPTY_ITEM * 1_000_000 + SEQUENCE_END))
        assert peer.answer().status is None


def test_what_is_no_storage_is_not_taken_deflated(node: ReceiverProcesses) -> None:
    """Half a megabyte would become five gigabytes: the library inflates a message as a whole."""
    with WirePeer(node.port, ((VERIFICATION, IMPLICIT), (COMMITMENT, DEFLATED))) as peer:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = bytes(1 << 20)
        bomb = [struct.pack("<HH2sHL", 8, 0x1195, b"UN", 0, 300 << 20), *([block] * 300)]
        peer.send(report(b"".join(map(deflater.compress, bomb)) + deflater.flush()))
        assert peer.answer().status is None


def test_store_without_a_data_set(node: ReceiverProcesses) -> None:
    """(0000,0800) says there is none: a failure, and the association goes on."""
    sop, _ = image()
    with WirePeer(node.port) as peer:
        peer.send(data(3, COMMAND | LAST, store_command(sop, data_set=NO_DATA_SET)))
        answer = peer.answer()
        assert answer.kind != P_DATA or answer.status not in {None, 0x0000}


REQUESTS = {
    "nothing at all": b"",
    "one byte": b"\x01",
    "half a request": associate_request()[:60],
    "a request of four gigabytes": pdu(1, bytes(100), length=0xFFFFFFFF),
    "zeroes": bytes(5000),
    "a request without items": pdu(1, struct.pack(">HH", 1, 0) + b"AINODE".ljust(16) + b"X".ljust(16) + bytes(32)),
    "items that lie": pdu(
        1, struct.pack(">HH", 1, 0) + b"AINODE".ljust(16) + b"X".ljust(16) + bytes(32) + b"\x10\0\xff\xff1.2"
    ),
    "titles of nothing": pdu(1, struct.pack(">HH", 1, 0) + bytes(64) + item(0x10, b"1.2.840.10008.3.1.1.1")),
    "10 000 contexts": associate_request([(VERIFICATION, IMPLICIT)] * 128 * 8)[:60_000],
    "data before an association": data(1, COMMAND | LAST, b""),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_association_request(node: ReceiverProcesses, name: str) -> None:
    with WirePeer(node.port, None, seconds=10 * IDLE_SECONDS) as peer:
        peer.send(REQUESTS[name])
        assert peer.ended()


# -- many -----------------------------------------------------------------------------------------------------------


def test_slow_peers_do_not_hold_up_a_good_one(node: ReceiverProcesses) -> None:
    """Silent and trickling connections, before and within an association: they end by themselves, others go on."""
    request = associate_request()
    silent = [WirePeer(node.port, None) for _ in range(20)]
    trickling = [WirePeer(node.port, None) for _ in range(20)]
    inside = [WirePeer(node.port) for _ in range(20)]
    stalled = store_message("1.2.3", bytes(50_000))[:5_000]
    slowest, at, until = 0.0, 0, time.monotonic() + 3.5 * IDLE_SECONDS
    try:
        for peer in inside[:10]:
            peer.send(stalled)
        with WirePeer(node.port) as good:
            while time.monotonic() < until:
                for peer in trickling:
                    peer.send(request[at : at + 1])
                for peer in inside[10:]:
                    peer.send(stalled[at : at + 1])
                at += 1
                sop, content = image()
                started = time.monotonic()
                assert good.store(sop, content) == 0
                slowest = max(slowest, time.monotonic() - started)
                time.sleep(0.05)
            good.release()
        print(f"slowest store of the good peer: {slowest * 1000:.0f} ms")
        assert slowest < IDLE_SECONDS
        for peer in [*silent, *trickling, *inside]:
            assert peer.ended(), "a slow peer kept its place"
    finally:
        for peer in [*silent, *trickling, *inside]:
            peer.close()


def test_nothing_about_patients_in_the_log(node: ReceiverProcesses) -> None:
    """Whatever the tests above sent: neither name nor number of the patient, nor a traceback with values."""
    log = node.log()
    assert "Test^Case" not in log
    assert "P-hostile" not in log
