"""HL7 v2 messages as a RIS sends them, and a client for MLLP on loopback."""

from __future__ import annotations

import socket
from types import TracebackType

from node.hl7.framing import BlockReader, framed


def message(kind: str, *segments: str, control_id: str = "1", charset: str = "", version: str = "2.5.1") -> bytes:
    """A message; encoded as ``charset`` (table 0211) says."""
    header = f"MSH|^~\\&|RIS|HOSPITAL|AINODE|RAD|20260211101010+0900||{kind}|{control_id}|P|{version}||||||{charset}"
    text = "\r".join([header, *segments]) + "\r"
    codec = {"": "ascii", "UNICODE UTF-8": "utf-8"}.get(charset, "iso2022_jp")
    return text.encode(codec)


def patient(number: str, name: str = "Yamada^Taro^^^^^L^A", born: str = "19500102", issuer: str = "") -> str:
    """A PID segment."""
    return f"PID|1||{number}^^^{issuer}^PI||{name}||{born}|M"


def merge(old: str, pid: str, *, control_id: str = "m1", event: str = "A40") -> bytes:
    """ADT that merges ``old`` into the patient of ``pid``."""
    return message(f"ADT^{event}^ADT_A39", f"EVN|{event}|20260211", pid, f"MRG|{old}^^^^PI", control_id=control_id)


def order(
    accession: str, pid: str, *, control: str = "NW", control_id: str = "o1", starts: str = "20260211110000"
) -> bytes:
    """OMI of one step on an MR, STAT."""
    return message(
        "OMI^O23^OMI_O23",
        pid,
        f"ORC|{control}|PLACER1|FILLER1",
        "TQ1|1||||||" + starts + "||S^Stat^HL70485",
        "OBR|1|PLACER1|FILLER1|7000000100000000^MRI head^JJ1017-16M|||||||||stroke?",
        f"IPC|{accession}|RP1|1.2.826.0.1.3680043.8.498.77|SPS1|MR|DWI^Diffusion^L|MR1||MR1AE",
        control_id=control_id,
    )


def report(accession: str, *, status: str = "F", signed: str = "20260211120000", control_id: str = "r1") -> bytes:
    """ORU of a report."""
    obr = f"OBR|1|P1|F1|RPT^Report^L||||||||||||||{accession}||||{signed}|||{status}"
    return message(
        "ORU^R01^ORU_R01", patient("P"), obr, "OBX|1|TX|RPT^Report^L||no finding||||||F", control_id=control_id
    )


class Client:
    """A connection to an MLLP listener."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), 10)
        self.socket.settimeout(10)
        self._reader = BlockReader(1 << 20)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> list[list[str]]:
        """Send a message; segments of its acknowledgement as fields, the code in ``[1][1]``."""
        self.socket.sendall(framed(data))
        return self.receive()

    def receive(self) -> list[list[str]]:
        """The next acknowledgement."""
        while True:
            chunk = self.socket.recv(65536)
            if not chunk:
                raise ConnectionError("closed without an acknowledgement")
            if blocks := self._reader.feed(chunk):
                return [line.split("|") for line in blocks[0].decode("ascii").split("\r") if line]
