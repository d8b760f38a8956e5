"""Limits that hold over processes, whatever becomes of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.dicom.association_slots import AssociationSlots
from node.dicom.rate_limit import RateLimit

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom node.dicom.association_slots import AssociationSlots\n"
    "slots = AssociationSlots(Path(sys.argv[1]), 5)\n"
    "print(sum(slots.take(str(each)) for each in range(int(sys.argv[2]))), flush=True)\ntime.sleep(60)"
)


def test_slots_are_one_total_and_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    slots = AssociationSlots(path, 5)
    assert slots.take("a")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path), "3"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "3"
        assert slots.take("b")
        assert not slots.take("c")
        os.kill(other.pid, signal.SIGKILL)
        other.wait(10)
    assert all(slots.take(name) for name in "cde")
    assert not slots.take("f")
    slots.release("a")
    slots.release("unknown")
    assert slots.take("f")
    # Closing gives everything back to whoever else has the file open.
    second = AssociationSlots(path, 5)
    assert not second.take("x")
    slots.close()
    slots.release("f")
    assert second.take("x")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rate_is_one_allowance_for_all(tmp_path: Path) -> None:
    clock = Clock()
    one, two = RateLimit(tmp_path / "rates", clock), RateLimit(tmp_path / "rates", clock)
    assert [each.allows("a", 6) for each in (one, two) * 4] == [True] * 6 + [False] * 2
    assert two.allows("b", 6)
    clock.now += 10.0  # a sixth of a minute gives one back
    assert two.allows("a", 6)
    assert not one.allows("a", 6)
    clock.now += 60.0
    assert [one.allows("a", 6) for _ in range(7)] == [True] * 6 + [False]
    assert all(one.allows("c", 0) for _ in range(100))


def test_rate_over_a_minute(tmp_path: Path) -> None:
    """Whoever keeps trying gets through as often as allowed, after a first burst of a minute's worth."""
    clock = Clock()
    limit = RateLimit(tmp_path / "rates", clock)
    let_in = 0
    for _ in range(1200):
        let_in += limit.allows("a", 30)
        clock.now += 0.1
    assert 89 <= let_in <= 90  # 30 at once, 60 in two minutes


@pytest.mark.parametrize("damage", [b"\xff", b"\x7f\xef"])
def test_a_damaged_or_old_table_locks_nobody_out(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "rates"
    limit = RateLimit(path, lambda: 5000.0)
    assert [limit.allows("a", 2) for _ in range(3)] == [True, True, False]
    limit.close()
    # The machine started anew: its clock is behind what stands in the table.
    assert RateLimit(path, lambda: 10.0).allows("a", 2)
    path.write_bytes(damage * 65536)
    assert RateLimit(path, lambda: 5000.0).allows("a", 2)


def test_many_keys(tmp_path: Path) -> None:
    limit = RateLimit(tmp_path / "rates", lambda: 5000.0)
    assert all(limit.allows(f"key {number}", 1) for number in range(20000))
    assert limit.allows("new", 1)
    assert not limit.allows("new", 1)


def test_closed(tmp_path: Path) -> None:
    limit, slots = RateLimit(tmp_path / "rates"), AssociationSlots(tmp_path / "slots", 2)
    for each in (limit, slots):
        each.close()
        each.close()
    assert not limit.allows("a", 5)
    assert not slots.take("a")
