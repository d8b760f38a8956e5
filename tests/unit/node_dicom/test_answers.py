"""Storage commitment answers as data sets, and statuses as outcomes."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from node.dicom.association import Peer
from node.dicom.commitment import Reference, failure_information, information, read_answer
from node.dicom.storage_scu import _judged
from node.errors import ObjectRejected, PeerBusy, PeerRejectedObject

ONE, TWO = Reference("1.2.840.1", "1.1"), Reference("1.2.840.1", "1.2")
PEER = Peer(ae_title="A", host="h", port=1, calling_ae_title="B")


def test_all_committed() -> None:
    answer = read_answer(information("9.9", [ONE, TWO]))
    assert (answer.transaction_uid, answer.committed, answer.failed) == ("9.9", {"1.1", "1.2"}, {})


def test_some_failed() -> None:
    answer = read_answer(failure_information("9.9", [ONE], [(TWO, 0x0112)]))
    assert (answer.committed, answer.failed) == ({"1.1"}, {"1.2": 0x0112})


def test_in_both_lists_is_not_proven() -> None:
    assert read_answer(failure_information("9.9", [ONE], [(ONE, 0x0110)])).committed == frozenset()


def test_an_answer_to_nothing_is_refused() -> None:
    with pytest.raises(ObjectRejected):
        read_answer(Dataset())


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0xB123])
def test_stored(status: int) -> None:
    reply = _judged(PEER, status, "")
    assert reply.status == status
    assert bool(reply.note) is (status != 0)


@pytest.mark.parametrize("status", [0xA700, 0xA702, 0x0110])
def test_busy(status: int) -> None:
    with pytest.raises(PeerBusy):
        _judged(PEER, status, "disk full")


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xCFFF, 0x0122, 0x0124, 0x0117, 0x1234])
def test_refused(status: int) -> None:
    with pytest.raises(PeerRejectedObject, match=f"0x{status:04X}"):
        _judged(PEER, status, "no")
