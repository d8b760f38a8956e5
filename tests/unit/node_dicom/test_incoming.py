"""Bounds of a message that stays in memory."""

from __future__ import annotations

import pytest

from node.dicom.incoming import IncomingDataSet
from node.errors import ObjectRejected

ITEM = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 16000])
def test_items_are_counted_however_they_are_cut(step: int) -> None:
    incoming = IncomingDataSet(lambda: None, limit_bytes=1 << 30, limit_seconds=60)
    content = b"\0\0" + ITEM * 50_000
    for at in range(0, len(content), step):
        incoming.write(content[at : at + step])
    with pytest.raises(ObjectRejected):
        for at in range(0, 8, step):
            incoming.write(ITEM[at : at + step])
    assert incoming.getvalue()[: len(content)] == content
