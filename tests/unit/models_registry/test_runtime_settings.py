"""``[runtime]`` of a card: what a session is opened with, and which part of it makes another model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models import loaded_graphs
from models import session as session_module
from models.card import CARD_FILE, Card
from models.errors import CardInvalid, ProviderMissing
from models.model import Model
from models.registry import Registry
from models.runtime_settings import identity_of
from models.session import CPU, CUDA, TENSORRT, Session
from models.volume import Volume
from node.cli import main


def with_runtime(catalogue: Path, *lines: str, before: str = "[thresholds]") -> Path:
    """The model ``bright-spots`` with a table ``[runtime]`` in the midst of its card."""
    path = catalogue / "spots" / CARD_FILE
    text = path.read_text(encoding="utf-8")
    table = "\n".join(["[runtime]", *lines, "", before])
    path.write_text(text.replace(before, table, 1), encoding="utf-8")
    return catalogue


def opened_with(monkeypatch: pytest.MonkeyPatch) -> list[tuple[onnxruntime.SessionOptions, list[str]]]:
    """Options and providers of every session of the runtime from now on; the runtime itself runs."""
    seen: list[tuple[onnxruntime.SessionOptions, list[str]]] = []
    real = onnxruntime.InferenceSession

    def look(path: str, options: onnxruntime.SessionOptions, providers: list[str], **more: int) -> object:
        seen.append((options, providers))
        return real(path, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", look)
    return seen


@pytest.mark.parametrize(("card", "site", "threads"), [(3, 0, 3), (3, 2, 3), (3, 8, 3), (None, 2, 2), (None, 0, 0)])
def test_a_session_is_opened_as_the_card_says(
    spots: Path, monkeypatch: pytest.MonkeyPatch, card: int | None, site: int, threads: int
) -> None:
    lines = ["memory_arena = false", 'providers = ["cpu"]', *([f"threads = {card}"] if card else [])]
    seen = opened_with(monkeypatch)
    session = Registry([with_runtime(spots, *lines)], threads=site).get("bright-spots").session("main")
    [(options, providers)] = seen
    assert options.intra_op_num_threads == threads
    assert options.enable_cpu_mem_arena is False and providers == [CPU] and session.provider == CPU


def test_without_settings_nothing_changes(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = opened_with(monkeypatch)
    Registry([spots]).get("bright-spots").session("main")
    assert seen[0][0].enable_cpu_mem_arena and seen[0][0].intra_op_num_threads == 0


def test_a_device_the_card_does_not_allow_is_not_used(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_runtime(spots, 'providers = ["cuda"]')
    monkeypatch.setattr(loaded_graphs, "providers_here", lambda: (CPU,))
    model = Registry([spots]).get("bright-spots")
    assert model.runs_with.providers == ()
    with pytest.raises(ProviderMissing, match="cuda"):
        model.session("main")
    # A machine that has one: the runtime's silent way to the CPU is not taken either, nor after a wrong answer.
    monkeypatch.setattr(loaded_graphs, "providers_here", lambda: (CUDA, CPU))
    assert Registry([spots]).get("bright-spots").runs_with.providers == (CUDA,)
    model.graphs.sessions["main"] = type("OnGpu", (), {"provider": CUDA})()  # type: ignore[assignment]
    assert not model.fall_back_to_cpu()


def test_tensorrt_is_used_where_the_card_names_it(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded_graphs, "providers_here", lambda: (TENSORRT, CUDA, CPU))
    assert Registry([spots]).get("bright-spots").runs_with.providers == (CUDA, CPU)
    with_runtime(spots, 'providers = ["cuda", "tensorrt"]')
    assert Registry([spots]).get("bright-spots").runs_with.providers == (TENSORRT, CUDA)


@pytest.mark.parametrize(("devices", "library", "found"), [(0, True, (CPU,)), (1, False, (CUDA, CPU))])
def test_what_is_only_listed_is_not_there(
    monkeypatch: pytest.MonkeyPatch, devices: int, library: bool, found: tuple[str, ...]
) -> None:
    """The build for GPUs lists its providers on every machine."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(session_module, "gpu_count", lambda: devices)
    monkeypatch.setattr(session_module, "_has_library", lambda name: library)
    assert session_module.providers_here() == session_module.preferred_providers() == found
    monkeypatch.setattr(session_module, "gpu_count", lambda: 1)
    monkeypatch.setattr(session_module, "_has_library", lambda name: True)
    assert session_module.providers_here() == (TENSORRT, CUDA, CPU)
    assert session_module.preferred_providers() == (CUDA, CPU)


def test_a_silent_fall_back_to_the_cpu_is_refused(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession

    def on_cpu(path: str, options: onnxruntime.SessionOptions, providers: list[str], **_: int) -> object:
        return real(path, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    with pytest.raises(ProviderMissing, match="only CPU"):
        Session(spots / "spots" / "main.onnx", providers=[CUDA])


@pytest.mark.parametrize("line", ["memory_arena = false", "deadline_seconds = 30.0", "device_memory_mib = 900"])
@pytest.mark.parametrize("before", ["[thresholds]", "[graphs.main]", "[[labels]]"])
def test_what_changes_no_result_is_no_other_model(spots: Path, line: str, before: str) -> None:
    digest = Model(spots / "spots").digest
    plain = (spots / "spots" / CARD_FILE).read_bytes()
    with_runtime(spots, "# tuned on our machine", line, before=before)
    changed = Model(spots / "spots")
    assert (spots / "spots" / CARD_FILE).read_bytes() != plain
    assert changed.card.runtime != Card.model_fields["runtime"].default
    assert identity_of((spots / "spots" / CARD_FILE).read_bytes()) == plain and changed.digest == digest


def test_approval_outlives_tuning_and_not_what_changes_digits(spots: Path) -> None:
    approved = {"bright-spots": Model(spots / "spots").digest}
    plain = (spots / "spots" / CARD_FILE).read_text()
    path = spots / "spots" / CARD_FILE
    path.write_text(plain + "\n[runtime]\nmemory_arena = false\ndeadline_seconds = 20.0\n")
    Model(spots / "spots").require_approved(approved)
    path.write_text(plain + '\n[runtime]\nproviders = ["cpu"]\n')
    only_cpu = Model(spots / "spots").digest
    path.write_text(plain + '\n[runtime]\nmemory_arena = true\nproviders = ["cpu"]\n')
    assert Model(spots / "spots").digest == only_cpu != approved["bright-spots"]
    path.write_text(plain + '\n[runtime]\nproviders = ["cuda"]\n')
    assert Model(spots / "spots").digest not in (only_cpu, approved["bright-spots"])
    path.write_text(plain + '\n[runtime]\nthreads = 4\nproviders = ["cpu"]\n')
    assert Model(spots / "spots").digest not in (only_cpu, approved["bright-spots"])
    path.write_text(plain.replace("limit_ml = 0.0", "limit_ml = 0.1") + "\n[runtime]\ndeadline_seconds = 20.0\n")
    assert Model(spots / "spots").digest != approved["bright-spots"]


@pytest.mark.parametrize(
    "text",
    [
        "runtime = { threads = 2 }\nID",
        "runtime.threads = 2\nID",
        'ID\n[runtime]\nproviders = [\n  "cpu",\n]\n',
        'caveats = ["""\n[runtime]\nthreads = 9\n"""]\nID\n[runtime]\nthreads = 2\n',
    ],
)
def test_settings_that_cannot_be_told_from_the_rest_are_refused(spots: Path, text: str) -> None:
    path = spots / "spots" / CARD_FILE
    path.write_text(text.replace("ID", path.read_text()))
    with pytest.raises(CardInvalid, match="table"):
        Card.load(spots / "spots")


@pytest.mark.parametrize("line", ["threads = 0", "deadline_seconds = 0", 'providers = ["tpu"]', "arena = true"])
def test_settings_out_of_range_are_refused(spots: Path, line: str) -> None:
    with pytest.raises(CardInvalid, match="runtime"):
        Card.load(with_runtime(spots, line) / "spots")


def test_the_arena_changes_no_digit(tmp_path: Path) -> None:
    """With any number of threads; the number itself may, which is why it is part of the digest."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(1)
    kernel = numpy_helper.from_array(rng.standard_normal((8, 4, 3, 3, 3)).astype(np.float32), "k")
    table = numpy_helper.from_array(rng.standard_normal((24, 257)).astype(np.float32), "t")
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1] * 6),
        helper.make_node("MatMul", ["c", "t"], ["m"]),
        helper.make_node("ReduceMean", ["m"], ["y"], axes=[2, 3]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 20, 22, 24])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], [kernel, table])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "g.onnx")
    array = rng.standard_normal((1, 4, 20, 22, 24)).astype(np.float32)
    for threads in (1, 2, 5):
        with_arena, without = (
            Session(tmp_path / "g.onnx", providers=[CPU], threads=threads, memory_arena=arena).run({"x": array})["y"]
            for arena in (True, False)
        )
        assert with_arena.tobytes() == without.tobytes()


def test_info_shows_them(spots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_runtime(spots, "threads = 4", "deadline_seconds = 90.0", 'providers = ["cpu"]')
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n[models]\nfolders = ["{spots}"]\n[jobs]\nthreads = 2\n')
    assert main(["--config", str(config), "models", "info", "bright-spots"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["runtime"]["threads"] == 4
    assert shown["runs_with"] == {
        "threads": 4,
        "memory_arena": True,
        "deadline_seconds": 90.0,
        "providers": [CPU],
    }


def test_a_tuned_model_gives_the_same_result(spots: Path) -> None:
    image = Volume(np.random.default_rng(2).standard_normal((8, 8, 8)).astype(np.float32) * 3, np.eye(4))
    before = Registry([spots]).get("bright-spots").run({"image": image}, {})
    after = Registry([with_runtime(spots, "deadline_seconds = 9.0", "memory_arena = false")]).get("bright-spots")
    result = after.run({"image": image}, {})
    assert result.segmentation is not None and before.segmentation is not None
    assert np.array_equal(result.segmentation.mask_zyx, before.segmentation.mask_zyx)
    assert result.model == before.model
