"""A model that answers wrong is found out before it sees a patient."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.card import file_digest
from models.errors import CardInvalid, GraphMismatch, InferenceFailed, OutputNotFinite, SelfTestFailed
from models.export.infarct_baseline import FOLDER, export_golden
from models.golden import deviation, write_golden
from models.model import Model
from models.registry import Registry
from models.session import Session
from node.jobs.self_tests import PERIOD_SECONDS, SelfTests
from tests.unit.models_registry.conftest import write_graph

NORMAL = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)


def with_golden(catalogue: Path, answer: np.ndarray, *, name: str = "score") -> Registry:
    """The model ``bright-spots`` (score = normal - 2) with a known answer in its card."""
    folder = catalogue / "spots"
    write_golden(folder / "golden.npz", {"normal": NORMAL}, {name: answer})
    card = folder / "model.toml"
    text = card.read_text(encoding="utf-8")
    golden = f'[golden.main]\nfile = "golden.npz"\nsha256 = "{file_digest(folder / "golden.npz")}"\n\n[thresholds]'
    card.write_text(text.replace("[thresholds]", golden), encoding="utf-8")
    return Registry([catalogue])


def test_right_answers_pass(spots: Path) -> None:
    model = with_golden(spots, NORMAL - 2).get("bright-spots")
    assert model.self_test() == {"main": pytest.approx(0.0, abs=1e-6)}


def test_wrong_answers_are_refused(spots: Path) -> None:
    model = with_golden(spots, NORMAL - 2.1).get("bright-spots")
    with pytest.raises(SelfTestFailed, match="CPUExecutionProvider"):
        model.self_test()


def test_the_answer_must_be_of_this_graph(spots: Path) -> None:
    with pytest.raises(GraphMismatch):
        with_golden(spots, NORMAL, name="something").get("bright-spots").self_test()
    (spots / "spots" / "noise.npz").write_bytes(b"not an archive")
    with pytest.raises(CardInvalid):
        deviation(Session(spots / "spots" / "main.onnx"), spots / "spots" / "noise.npz")


def test_large_answers_are_thinned_and_still_compared(tmp_path: Path) -> None:
    write_graph(tmp_path / "main.onnx")
    big = np.random.default_rng(1).normal(size=(20, 40, 50)).astype(np.float32)
    write_golden(tmp_path / "golden.npz", {"normal": np.zeros_like(big)}, {"score": np.full_like(big, -2.0)})
    session = Session(tmp_path / "main.onnx")
    assert deviation(session, tmp_path / "golden.npz") == 0.0
    write_golden(tmp_path / "golden.npz", {"normal": big}, {"score": big - 2.5})
    assert deviation(session, tmp_path / "golden.npz") > 0.05


def test_embedded_known_answers_are_rebuilt(tmp_path: Path) -> None:
    for name, digest in export_golden(tmp_path).items():
        assert digest == file_digest(FOLDER / f"{name}-golden.npz")
    assert len(Registry().get("infarct-adc-baseline").self_test()) == 3


def test_asked_once_and_again_after_a_day(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, now = with_golden(spots, NORMAL - 2), [0.0]
    asked: list[str] = []
    real = Model.self_test
    monkeypatch.setattr(Model, "self_test", lambda self: (asked.append(self.card.id), real(self))[1])
    tests = SelfTests(clock=lambda: now[0])
    for at in (0.0, 10.0, PERIOD_SECONDS - 1, PERIOD_SECONDS + 1):
        now[0] = at
        tests.require(registry, "bright-spots")
    assert len(asked) == 2


CUDA = "CUDAExecutionProvider"
Answer = Callable[[], dict[str, np.ndarray]]


def fails() -> dict[str, np.ndarray]:
    raise InferenceFailed("CUDA failure 700: an illegal memory access was encountered")


def nonsense() -> dict[str, np.ndarray]:
    raise OutputNotFinite("output score of main.onnx holds NaN or infinity", output="score")


def zero() -> dict[str, np.ndarray]:
    return {"score": np.zeros_like(NORMAL)}


def right() -> dict[str, np.ndarray]:
    return {"score": NORMAL - 2}


def on_gpu(model: Model, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Model:
    """No machine of the tests has a card that computes wrong: the session only says that it is one."""
    session = model.graphs.sessions["main"] = Session(model.folder / "main.onnx")
    session.provider = CUDA
    monkeypatch.setattr(session, "run", lambda feeds, outputs=None, **_: answer())
    return model


@pytest.mark.parametrize("answer", [zero, nonsense, fails])
def test_a_wrong_gpu_is_left_for_the_processor(spots: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    registry, tests = with_golden(spots, NORMAL - 2), SelfTests()
    model = on_gpu(registry.get("bright-spots"), answer, monkeypatch)
    tests.require(registry, "bright-spots")
    assert model.session("main").provider == "CPUExecutionProvider"
    assert model.reference({}).provider == "CPUExecutionProvider"
    assert tests.state["bright-spots"] == {"passed": True, "fell_back": True, "no_room": False}


def test_a_model_that_is_read_anew_is_asked_anew(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a folder of models changes: what left a wrong GPU would be on it again, and nobody would know."""
    registry, tests = with_golden(spots, NORMAL - 2), SelfTests()
    on_gpu(registry.get("bright-spots"), zero, monkeypatch)
    tests.require(registry, "bright-spots")
    again = Registry([spots])
    model = on_gpu(again.get("bright-spots"), zero, monkeypatch)
    tests.require(again, "bright-spots")
    assert model.provider == "CPUExecutionProvider"


def test_a_wrong_gpu_is_trusted_with_no_other_model_on_its_word(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = (spots / "spots" / "model.toml").read_text(encoding="utf-8")
    with_golden(spots, NORMAL - 2)
    proven = (spots / "spots" / "model.toml").read_text(encoding="utf-8")
    only = plain + '\n[runtime]\nproviders = ["cuda"]\n'
    for name, card in (("proven", proven), ("unproven", plain), ("only-there", only)):
        shutil.copytree(spots / "spots", spots / name)
        (spots / name / "model.toml").write_text(card.replace("bright-spots", name), encoding="utf-8")
    registry, tests = Registry([spots]), SelfTests()
    for name in ("proven", "unproven"):
        on_gpu(registry.get(name), right, monkeypatch)
        tests.require(registry, name)
        assert registry.get(name).provider == CUDA
    on_gpu(registry.get("bright-spots"), zero, monkeypatch)
    tests.require(registry, "bright-spots")
    tests.require(registry, "unproven")
    assert registry.get("unproven").provider == "CPUExecutionProvider"
    tests.require(registry, "proven")
    assert registry.get("proven").provider == CUDA
    on_gpu(registry.get("only-there"), right, monkeypatch)
    with pytest.raises(SelfTestFailed, match="only-there may run on CUDAExecutionProvider only"):
        tests.require(registry, "only-there")


def test_versions_do_not_speak_for_each_other(spots: Path) -> None:
    with_golden(spots, NORMAL)
    shutil.copytree(spots / "spots", spots / "next")
    card = spots / "next" / "model.toml"
    card.write_text(card.read_text(encoding="utf-8").replace('version = "0.1"', 'version = "0.2"'), encoding="utf-8")
    write_golden(spots / "next" / "golden.npz", {"normal": NORMAL}, {"score": NORMAL - 2})
    digests = file_digest(spots / "spots" / "golden.npz"), file_digest(spots / "next" / "golden.npz")
    card.write_text(card.read_text(encoding="utf-8").replace(*digests), encoding="utf-8")
    registry, tests = Registry([spots]), SelfTests()
    wrong, good = registry.versions("bright-spots")
    if good.card.version == "0.1":
        wrong, good = good, wrong
    registry.serve({"bright-spots": good.digest})
    tests.require(registry, "bright-spots")
    registry.serve({"bright-spots": wrong.digest})
    with pytest.raises(SelfTestFailed):
        tests.require(registry, "bright-spots")
    assert not tests.state["bright-spots"]["passed"]
    registry.serve({"bright-spots": good.digest})
    tests.require(registry, "bright-spots")
    assert tests.state["bright-spots"]["passed"]


def test_what_is_no_number_is_not_near_anything(tmp_path: Path) -> None:
    write_graph(tmp_path / "main.onnx")
    write_golden(tmp_path / "golden.npz", {"normal": NORMAL}, {"score": np.full_like(NORMAL, np.nan)})
    assert not deviation(Session(tmp_path / "main.onnx"), tmp_path / "golden.npz") <= 1.0


def test_wrong_on_the_processor_is_refused_each_time(spots: Path) -> None:
    registry, tests = with_golden(spots, NORMAL), SelfTests()
    for _ in range(2):
        with pytest.raises(SelfTestFailed):
            tests.require(registry, "bright-spots")
