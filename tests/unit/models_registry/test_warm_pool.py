"""What stays loaded, what goes, and what is not tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import warm_pool
from models.errors import OutOfMemory, Transient
from models.warm_pool import WarmPool, available_bytes

GIB = 1 << 30


class Held:
    """A model whose graphs take memory while they are loaded."""

    on_device = False

    def __init__(self, machine: Machine, size: int) -> None:
        self.machine, self.size, self.loaded = machine, size, False

    def load(self, pool: WarmPool) -> None:
        pool.admit(self, self.size, "graph main")
        self.loaded = True
        self.machine.free -= self.size

    def unload(self) -> bool:
        was, self.loaded = self.loaded, False
        self.machine.free += self.size if was else 0
        return was


class Machine:
    def __init__(self, free: int) -> None:
        self.free = free


def test_the_one_used_longest_ago_goes_first_and_only_as_many_as_must() -> None:
    machine = Machine(10 * GIB)
    pool = WarmPool(lambda: machine.free)
    first, second, third = (Held(machine, 3 * GIB) for _ in range(3))
    for each in (first, second):
        each.load(pool)
    pool.use(first)
    third.load(pool)
    assert (first.loaded, second.loaded, third.loaded) == (True, False, True)


def test_what_cannot_fit_is_refused_and_may_be_tried_again() -> None:
    machine = Machine(4 * GIB)
    pool = WarmPool(lambda: machine.free)
    small, large = Held(machine, GIB), Held(machine, 5 * GIB)
    small.load(pool)
    with pytest.raises(OutOfMemory, match="5120 MiB, and 4096 MiB are free") as caught:
        large.load(pool)
    assert isinstance(caught.value, Transient) and not small.loaded
    machine.free = 6 * GIB
    large.load(pool)
    assert large.loaded


def test_where_nobody_knows_nothing_is_refused() -> None:
    machine = Machine(0)
    pool = WarmPool(lambda: None)
    one, two = Held(machine, GIB), Held(machine, GIB)
    one.load(pool)
    two.load(pool)
    assert one.loaded and two.loaded


def test_the_machine_and_its_control_group_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = available_bytes()
    assert free is None or free > 1048576
    monkeypatch.setattr(warm_pool, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1048576\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_bytes() == 48576
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert warm_pool._of_machine(tmp_path / "meminfo") == 2 << 20
    assert warm_pool._of_machine(tmp_path / "none") is None


def test_a_model_is_loaded_again_when_it_is_needed() -> None:
    from models.registry import Registry

    model = Registry(threads=1).get("infarct-adc-baseline")
    model.warm()
    provider = model.reference({}).provider
    assert model.unload() and not model.unload()
    assert model.reference({}).provider == provider
    assert model.self_test() is not None and model.session("main").inputs
