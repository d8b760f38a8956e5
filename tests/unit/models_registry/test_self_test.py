"""A model that answers wrong is found out before it sees a patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.card import file_digest
from models.errors import CardInvalid, GraphMismatch, SelfTestFailed
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


def test_a_wrong_gpu_is_left_for_the_processor(spots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine of the tests has a card that computes wrong: the session only says that it is one."""
    registry = with_golden(spots, NORMAL - 2)
    model = registry.get("bright-spots")
    session = model.session("main")
    session.provider = "CUDAExecutionProvider"
    monkeypatch.setattr(session, "run", lambda feeds, outputs=None, **_: {"score": np.zeros_like(NORMAL)})
    SelfTests().require(registry, "bright-spots")
    assert model.session("main").provider == "CPUExecutionProvider"
    assert model.reference({}).provider == "CPUExecutionProvider"


def test_wrong_on_the_processor_is_refused_each_time(spots: Path) -> None:
    registry, tests = with_golden(spots, NORMAL), SelfTests()
    for _ in range(2):
        with pytest.raises(SelfTestFailed):
            tests.require(registry, "bright-spots")
