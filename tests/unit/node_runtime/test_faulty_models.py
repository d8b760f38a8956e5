"""Whatever is wrong with a model, its run is refused in so many words, and the same model host runs the next one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dicom_sr.identity import OFFLINE
from dicom_sr.phantom_study import write_phantom_study
from models.card import file_digest
from models.phantom import make_phantom
from node.errors import DeadlineExceeded
from node.jobs.executors.local import LocalExecutor
from node.jobs.specification import JobSpec, ResultBundle
from node.settings import Settings
from tests.unit.models_registry.conftest import CARD, write_graph

pytestmark = pytest.mark.slow

SHAPE = ["z", "y", "x"]


def write_nodes(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int = 18) -> None:
    """A graph from ``normal`` to ``score``."""
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("normal", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)


def never_ends(path: Path) -> None:
    """A loop of 2**62 turns."""
    one = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    goes, keeps = (helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("goes", "keeps"))
    before, after = (helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("before", "after"))
    turn = [helper.make_node("Identity", ["goes"], ["keeps"]), helper.make_node("Neg", ["before"], ["after"])]
    body = helper.make_graph(turn, "body", [one, goes, before], [keeps, after])
    loop = helper.make_node("Loop", ["turns", "go", "normal"], ["score"], body=body)
    write_nodes(path, [loop], {"turns": np.array(2**62), "go": np.array(True)})


def wants_four_tebibytes(path: Path) -> None:
    nodes = [
        helper.make_node("Expand", ["nought", "size"], ["huge"]),
        helper.make_node("ReduceMax", ["huge"], ["most"], keepdims=0),
        helper.make_node("Mul", ["normal", "zero"], ["small"]),
        helper.make_node("Add", ["small", "most"], ["score"]),
    ]
    # From the input, so that nothing is computed when the graph is loaded.
    nodes.insert(0, helper.make_node("ReduceMax", ["normal"], ["nought"], keepdims=0))
    write_nodes(path, nodes, {"size": np.array([2**20, 2**20]), "zero": np.float32(0)})


def of_the_future(path: Path) -> None:
    write_nodes(path, [helper.make_node("Neg", ["normal"], ["score"])], {}, opset=99)


@dataclass(frozen=True)
class Fault:
    """A graph and a card; ``after`` is done once the card has pinned the graph."""

    graph: Callable[[Path], None]
    code: str
    words: str
    old: str = ""
    new: str = ""
    after: Callable[[Path], None] = lambda path: None


FAULTS = {
    "digest": Fault(
        write_graph, "MOD-002", "the card pins", after=lambda path: path.write_bytes(path.read_bytes() + b"x")
    ),
    "names": Fault(write_graph, "MOD-004", "card: scores", 'outputs = ["score"]', 'outputs = ["scores"]'),
    "other-opset": Fault(write_graph, "MOD-004", "main.onnx is of opset 18; card: 17", "opset = 18", "opset = 17"),
    "opset": Fault(of_the_future, "MOD-004", "opset", "opset = 18", "opset = 99"),
    "nan": Fault(lambda path: write_graph(path, operator="Div", constant=0.0), "MOD-006", "NaN or infinity"),
    "memory": Fault(wants_four_tebibytes, "MOD-008", "ran out of memory"),
    "hang": Fault(never_ends, "", ""),
    "good": Fault(write_graph, "", ""),
}


def install(folder: Path, name: str, fault: Fault) -> None:
    folder.mkdir(parents=True)
    fault.graph(folder / "main.onnx")
    card = CARD.format(digest=file_digest(folder / "main.onnx"), maximum=3).replace("bright-spots", name)
    # The only ADC map of the study.
    card = card.replace('kind = "image"', 'kind = "adc"')
    assert fault.old in card
    (folder / "model.toml").write_text(card.replace(fault.old, fault.new) if fault.old else card, encoding="utf-8")
    fault.after(folder / "main.onnx")


@dataclass
class Bench:
    """A model host, and a study to run models on."""

    settings: Settings
    executor: LocalExecutor
    files: list[Path]
    folder: Path
    runs: int = 0

    def run(self, model: str, deadline_seconds: float = 60.0) -> ResultBundle:
        self.runs += 1
        out = self.folder / f"out-{self.runs}"
        out.mkdir()
        spec = JobSpec(
            job_id=self.runs,
            study_uid="1.2",
            rule="r",
            model_id=model,
            model_folders=self.settings.models.folders,
            files=self.files,
            profiles={},
            languages=[],
            identity=OFFLINE,
            output_dir=out,
            deadline_seconds=deadline_seconds,
            threads=1,
        )
        return self.executor.run(spec, abandoned=lambda: False)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faulty")
    for name, fault in FAULTS.items():
        install(folder / "site" / name, name, fault)
    head = make_phantom(11, shape_zyx=(12, 64, 64), spacing_mm_zyx=(11.0, 3.6, 3.6))
    files = list(write_phantom_study(head, folder / "study", seed=11).files)
    settings = Settings.model_validate(
        {
            "node": {"data_dir": folder / "node"},
            "models": {"folders": [str(folder / "site")]},
            "destination": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}},
            # One host serves what rules name; for another model it would be replaced.
            "rule": [{"name": name, "model": name, "destinations": ["pacs"]} for name in FAULTS],
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
        executor = LocalExecutor(settings, command=[sys.executable, "-P", "-m", "node.jobs.model_host"])
        yield Bench(settings, executor, files, folder)
        executor.close()


@pytest.mark.parametrize("name", sorted(name for name, fault in FAULTS.items() if fault.code))
def test_each_fault_is_refused_and_the_host_goes_on(bench: Bench, name: str) -> None:
    assert (good := bench.run("good")).failure is None, good.failure
    child = bench.executor.child_pid
    failure = bench.run(name).failure
    assert failure is not None
    assert (failure.code, FAULTS[name].words in failure.message) == (FAULTS[name].code, True), failure.message
    assert failure.transient is (name == "memory") and failure.remedy
    assert bench.run("good").outcome == good.outcome == "found"
    assert bench.executor.child_pid == child


def test_a_graph_that_never_ends_is_stopped(bench: Bench) -> None:
    bench.run("good")
    child = bench.executor.child_pid
    with pytest.raises(DeadlineExceeded):
        bench.run("hang", deadline_seconds=3.0)
    assert bench.run("good").failure is None
    assert bench.executor.child_pid != child
