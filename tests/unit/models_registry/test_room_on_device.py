"""A GPU without room: others leave it, then the CPU computes the whole run and the result says so; else a clear refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models import session as session_module
from models.errors import InferenceFailed, OutOfMemory, SelfTestFailed, Transient
from models.model import Model
from models.placement import Left, Placement
from models.registry import Registry
from models.results import StudyResult
from models.room_on_device import left_devices, where_there_is_room
from models.runtime_settings import RuntimeSettings
from models.session import CPU, CUDA, Session
from models.volume import Volume
from models.warm_pool import WarmPool
from node.jobs.self_tests import SelfTests
from tests.unit.models_registry import gpu as cards
from tests.unit.models_registry.gpu import GIB, Gpu, pretend
from tests.unit.models_registry.test_self_test import NORMAL, with_golden

IMAGE = Volume(np.random.default_rng(2).standard_normal((8, 8, 8)).astype(np.float32) * 3, np.eye(4))
MEMORY = [cards.ARENA, cards.LIMITED, cards.CUDA_2, cards.CUBLAS, cards.CUDNN]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return pretend(monkeypatch)


def analysed(model: Model) -> StudyResult:
    return where_there_is_room(lambda: [model], lambda: model.run({"image": IMAGE}, {}))


def with_runtime(catalogue: Path, *lines: str) -> None:
    card = catalogue / "spots" / "model.toml"
    card.write_text(card.read_text() + "\n".join(["\n[runtime]", *lines, ""]))


def neighbour(catalogue: Path) -> None:
    shutil.copytree(catalogue / "spots", catalogue / "other")
    card = catalogue / "other" / "model.toml"
    card.write_text(card.read_text().replace('id = "bright-spots"', 'id = "other"'))


def test_with_room_the_gpu_runs_it(spots: Path, gpu: Gpu) -> None:
    model = Registry([spots]).get("bright-spots")
    assert analysed(model).model.provider == CUDA and model.left is None and model.graphs.on_device


def test_a_device_computes_the_same_each_time_and_takes_what_it_is_asked_for(spots: Path, gpu: Gpu) -> None:
    """By itself cuDNN times its algorithms, with all memory that is free, and takes the fastest of that moment."""
    Registry([spots]).get("bright-spots").warm()
    assert gpu.options == {CUDA: {"cudnn_conv_algo_search": "HEURISTIC"}}
    with_runtime(spots, "memory_arena = false")
    Registry([spots]).get("bright-spots").warm()
    assert gpu.options[CUDA]["arena_extend_strategy"] == "kSameAsRequested"


def test_libraries_that_are_missing_disturb_no_output(spots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session_module._find_libraries.cache_clear()
    session = Session(spots / "spots" / "main.onnx", providers=(CUDA, CPU))
    assert session.provider in (CPU, CUDA) and capsys.readouterr().out == ""


@pytest.mark.parametrize("words", MEMORY)
@pytest.mark.parametrize("when", ["at_creation", "at_run"])
def test_without_room_the_whole_run_is_the_cpus(spots: Path, gpu: Gpu, words: str, when: str) -> None:
    model = Registry([spots]).get("bright-spots")
    on_cpu = analysed(_alone(spots))
    setattr(gpu, when, words)
    result = analysed(model)
    assert result.model.provider == CPU and left_devices([model]) == {"bright-spots": "not enough memory"}
    assert result.model == on_cpu.model and gpu.opened[-2:] == [CUDA, CPU]
    assert result.segmentation is not None and on_cpu.segmentation is not None
    assert np.array_equal(result.segmentation.mask_zyx, on_cpu.segmentation.mask_zyx)


def _alone(spots: Path) -> Model:
    model = Model(spots / "spots")
    assert model.fall_back_to_cpu(Left.MEMORY)
    return model


@pytest.mark.parametrize("words", [cards.BROKEN, cards.HOST])
def test_other_failures_are_what_they_were(spots: Path, gpu: Gpu, words: str) -> None:
    """Where the machine itself has no memory the CPU would have none either."""
    model, gpu.at_run = Registry([spots]).get("bright-spots"), words
    with pytest.raises(InferenceFailed if words == cards.BROKEN else OutOfMemory) as caught:
        analysed(model)
    assert model.left is None and isinstance(caught.value, Transient) == (words == cards.HOST)


def test_what_is_known_not_to_fit_is_not_tried(spots: Path, gpu: Gpu) -> None:
    with_runtime(spots, "device_memory_mib = 6000")
    model, gpu.free = Registry([spots]).get("bright-spots"), 4 * GIB
    with pytest.raises(OutOfMemory, match="needs 6000 MiB of the GPU, and 4096 of its 16384 MiB are free") as caught:
        model.session("main")
    assert caught.value.device == CUDA and gpu.opened == []
    assert analysed(model).model.provider == CPU and gpu.opened == [CPU]


def test_where_nobody_can_be_asked_it_is_tried(spots: Path, gpu: Gpu) -> None:
    with_runtime(spots, "device_memory_mib = 6000")
    model, gpu.free = Registry([spots]).get("bright-spots"), None
    assert analysed(model).model.provider == CUDA


def test_a_card_that_forbids_the_cpu_is_refused(spots: Path, gpu: Gpu) -> None:
    with_runtime(spots, 'providers = ["cuda"]')
    model, gpu.at_run = Registry([spots]).get("bright-spots"), cards.ARENA
    with pytest.raises(OutOfMemory, match=r"main.onnx ran out of memory of the GPU: .*BFCArena") as caught:
        analysed(model)
    assert isinstance(caught.value, Transient) and caught.value.code == "MOD-008"


def test_others_leave_the_device_first(spots: Path, gpu: Gpu) -> None:
    neighbour(spots)
    registry = Registry([spots])
    model, other = registry.get("bright-spots"), registry.get("other")
    other.warm()
    gpu.before_run = lambda: setattr(gpu, "at_run", cards.ARENA if other.graphs.on_device else "")
    assert analysed(model).model.provider == CUDA and not other.graphs.on_device and model.left is None
    other.warm()
    gpu.before_run = lambda: setattr(gpu, "at_run", cards.ARENA)
    assert analysed(model).model.provider == CPU and other.left is None


def test_a_chain_whose_members_never_fit_together_ends(spots: Path, gpu: Gpu) -> None:
    """What has left once for a model is not asked to leave again and again."""
    neighbour(spots)
    registry = Registry([spots])
    model, other = registry.get("bright-spots"), registry.get("other")

    def run() -> str:
        other.warm()
        return model.run({"image": IMAGE}, {}).model.provider

    gpu.before_run = lambda: setattr(gpu, "at_run", cards.ARENA)
    assert where_there_is_room(lambda: [model, other], run) == CPU


def test_admission_to_the_device_evicts_only_what_is_on_it() -> None:
    class Held:
        def __init__(self, size: int, *, on_device: bool = True) -> None:
            self.size, self.on_device = size, on_device

        def unload(self) -> bool:
            machine.free = (machine.free or 0) + (self.size if self.on_device else 0)
            self.on_device = False
            return True

    machine = Gpu()
    machine.free = 3 * GIB
    pool = WarmPool(lambda: None, machine.memory)
    first, on_cpu, last, wanting = Held(2 * GIB), Held(9, on_device=False), Held(4 * GIB), Held(0, on_device=False)
    for each in (first, on_cpu, last):
        pool.use(each)
    pool.admit_on_device(wanting, 5 * GIB, 5 * GIB, "graph", CUDA)
    assert machine.free == 5 * GIB and last.on_device and not first.on_device
    with pytest.raises(OutOfMemory, match="needs 10240 MiB of the GPU, and 9216"):
        pool.admit_on_device(wanting, 10 * GIB, 10 * GIB, "graph", CUDA)


def test_what_a_model_gives_back_is_what_it_is_known_to_take(spots: Path, gpu: Gpu) -> None:
    model = Registry([spots]).get("bright-spots")
    model.warm()
    gpu.free = 2 * GIB
    taken = iter([2 * GIB, 8 * GIB])
    gpu.memory = lambda: cards.DeviceMemory(next(taken), 16 * GIB)  # type: ignore[method-assign]
    model.graphs._pool._device = gpu.memory
    assert model.unload()
    model.graphs._pool._device = lambda: cards.DeviceMemory(5 * GIB, 16 * GIB)
    with pytest.raises(OutOfMemory, match="needs 6144 MiB"):
        model.session("main")


def test_the_device_is_tried_again_when_more_is_free_or_an_hour_has_passed() -> None:
    now = [0.0]
    place = Placement(RuntimeSettings(), clock=lambda: now[0])
    place.leave(Left.MEMORY, cards.DeviceMemory(4 * GIB, 16 * GIB))
    assert place.providers((CUDA, CPU)) == (CPU,)
    assert not place.may_return(cards.DeviceMemory(4 * GIB + 1, 16 * GIB)) and not place.may_return(None)
    assert place.may_return(cards.DeviceMemory(6 * GIB, 16 * GIB))
    now[0] = 3600.0
    assert place.may_return(None)
    place.leave(Left.ANSWERS)
    now[0] = 9e9
    assert not place.may_return(cards.DeviceMemory(16 * GIB, 16 * GIB))
    place.leave(Left.MEMORY)
    assert place.left is Left.ANSWERS, "a device that answered wrong is not trusted because it has room"


def test_the_known_answer_is_asked_on_each_way(spots: Path, gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, tests, asked = with_golden(spots, NORMAL - 2), SelfTests(), []
    real = Model.self_test
    monkeypatch.setattr(Model, "self_test", lambda self: (asked.append(self.provider), real(self))[1])
    model = registry.get("bright-spots")
    tests.require(registry, "bright-spots")
    gpu.at_run = cards.CUDA_2
    assert analysed(model).model.provider == CPU
    tests.look(registry)
    assert tests.state["bright-spots"] == {"passed": True, "fell_back": False, "no_room": True}
    gpu.at_run, gpu.free = "", 12 * GIB
    tests.require(registry, "bright-spots")
    assert tests.state["bright-spots"] == {"passed": True, "fell_back": False, "no_room": False}
    assert asked == [CUDA, CPU, CUDA] and analysed(model).model.provider == CUDA


def test_a_model_that_finds_no_room_for_its_known_answer_serves_on_the_cpu(spots: Path, gpu: Gpu) -> None:
    registry, tests = with_golden(spots, NORMAL - 2), SelfTests()
    gpu.at_creation = cards.CUBLAS
    tests.require(registry, "bright-spots")
    assert tests.state["bright-spots"]["no_room"] and registry.get("bright-spots").provider == CPU


def test_wrong_on_the_cpu_is_refused_after_the_fallback(spots: Path, gpu: Gpu) -> None:
    model, gpu.at_run = with_golden(spots, NORMAL).get("bright-spots"), cards.ARENA
    with pytest.raises(SelfTestFailed, match=CPU):
        analysed(model)


def test_what_the_failed_run_held_is_gone_before_the_next_try(spots: Path, gpu: Gpu) -> None:
    """Frames of an error that is kept would keep its arrays, and those the device's memory."""
    import gc
    import weakref

    class Array:
        pass

    seen: list[weakref.ref[Array]] = []

    def run() -> bool:
        if seen:
            return seen[0]() is None
        held = Array()
        seen.append(weakref.ref(held))
        raise OutOfMemory("no room", provider=CUDA, model="bright-spots")

    model = Registry([spots]).get("bright-spots")
    model.warm()
    gc.disable()
    try:
        assert where_there_is_room(lambda: [model], run)
    finally:
        gc.enable()
