"""Graphs that reach beyond their folder, by name or by link, and graphs that need code of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import warm_pool
from models.card import file_digest
from models.errors import CardInvalid, DigestMismatch, GraphMismatch, OutOfMemory, OutsideData
from models.export.card_text import toml_text
from models.external_data import external_files
from models.registry import Registry
from tests.unit.models_dense.conftest import BRAIN, STRUCTURE

ROOT = Path(__file__).resolve().parents[3]


def _graph(folder: Path, location: str, *, inside_if: bool = False, domain: str = "") -> Path:
    """y = x + w, with w (2 MiB) in ``location``."""
    weights = numpy_helper.from_array(np.ones((512, 1024), np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"], domain=domain)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [512, 1024])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    if inside_if:
        const = helper.make_node("Constant", [], ["w"], value=weights)
        tensor = const.attribute[0].t
        branch = helper.make_graph([const, node], "branch", [], [y])
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
        start = [numpy_helper.from_array(np.array(True), "c")]
        graph = helper.make_graph(nodes, "main", [x], [y], start)
        tensors = [a.g.node[0].attribute[0].t for a in graph.node[0].attribute]
        assert tensor.name == "w"
    else:
        graph = helper.make_graph([node], "main", [x], [y], [weights])
        tensors = [graph.initializer[0]]
    data = weights.raw_data
    for each in tensors:
        each.ClearField("raw_data")
        each.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
            entry = each.external_data.add()
            entry.key, entry.value = key, value
    imports = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path = folder / "main.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())
    return path


def _model(tmp_path: Path, location: str, pinned: dict[str, Path], **options: object) -> Registry:
    folder = tmp_path / "site" / "outside"
    folder.mkdir(parents=True)
    graph = _graph(folder, location, **options)  # type: ignore[arg-type]
    content = {
        **{key: "test" for key in ("version", "title", "name", "manufacturer", "licence", "intended_use")},
        "id": "outside",
        "family": "feed_forward",
        "finding": STRUCTURE,
        "site": BRAIN,
        "inputs": [{"role": "x", "kind": "image", "modality": "MR"}],
        "graphs": {
            "main": {
                "file": "main.onnx",
                "sha256": file_digest(graph),
                "inputs": ["x"],
                "outputs": ["y"],
                "opset": 18,
            }
        },
        "files": {
            f"f{n}": {"file": name, "sha256": file_digest(path)} for n, (name, path) in enumerate(pinned.items())
        },
    }
    (folder / "model.toml").write_text(toml_text(content), encoding="utf-8")
    return Registry([folder.parent], threads=1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(np.ones((512, 1024), np.float32).tobytes())
    return path


@pytest.mark.parametrize("inside_if", [False, True])
def test_data_that_is_pinned_and_there_is_taken(tmp_path: Path, weights: Path, inside_if: bool) -> None:
    registry = _model(tmp_path, "weights.bin", {"weights.bin": weights}, inside_if=inside_if)
    inside = tmp_path / "site" / "outside" / "weights.bin"
    shutil.copy(weights, inside)
    made = registry.get("outside").session("main").run({"x": np.zeros((512, 1024), np.float32)})
    assert made["y"].min() == made["y"].max() == 1
    inside.write_bytes(inside.read_bytes()[:-4] + bytes(4))
    with pytest.raises(DigestMismatch):
        Registry([tmp_path / "site"]).get("outside").session("main")


def test_data_beside_the_graph_counts_before_it_is_loaded(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the card calls the file: two mebibytes are not to be loaded where one is free."""
    monkeypatch.setattr(warm_pool.WarmPool.__init__, "__defaults__", (lambda: 1 << 20, None))
    registry = _model(tmp_path, "weights.bin", {"weights.bin": weights})
    shutil.copy(weights, tmp_path / "site" / "outside" / "weights.bin")
    with pytest.raises(OutOfMemory, match="graph main has 2 MiB, and 1 MiB are free"):
        registry.get("outside").session("main")


@pytest.mark.parametrize("inside_if", [False, True])
@pytest.mark.parametrize("location", ["../../weights.bin", "{absolute}", "weights.bin", "", "./weights.bin"])
def test_data_from_elsewhere_is_refused(tmp_path: Path, weights: Path, location: str, inside_if: bool) -> None:
    registry = _model(tmp_path, location.replace("{absolute}", str(weights)), {}, inside_if=inside_if)
    shutil.copy(weights, tmp_path / "site" / "outside" / "weights.bin")
    with pytest.raises(OutsideData):
        registry.get("outside").session("main")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_data_by_link_is_refused_even_where_its_digest_is_right(tmp_path: Path, weights: Path, kind: str) -> None:
    name = "weights.bin" if kind == "file" else "below/weights.bin"
    registry = _model(tmp_path, name, {name: weights})
    folder = tmp_path / "site" / "outside"
    if kind == "file":
        (folder / "weights.bin").symlink_to(weights)
    else:
        (folder / "below").symlink_to(tmp_path)
    with pytest.raises(OutsideData, match="link"):
        registry.get("outside").session("main")


def test_a_card_cannot_pin_what_lies_elsewhere(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CardInvalid):
        registry = _model(tmp_path, "../../weights.bin", {"../../weights.bin": weights})
        raise registry.problems["outside"]


def test_operators_of_ones_own_are_refused_and_no_library_is_ever_loaded(tmp_path: Path, weights: Path) -> None:
    registry = _model(tmp_path, "weights.bin", {"weights.bin": weights}, domain="com.example.custom")
    shutil.copy(weights, tmp_path / "site" / "outside" / "weights.bin")
    with pytest.raises(GraphMismatch):
        registry.get("outside").session("main")
    sources = [path for package in ("models", "node", "dicom_sr") for path in (ROOT / package).rglob("*.py")]
    assert not [path for path in sources if "register_custom_ops" in path.read_text(encoding="utf-8")]


def test_every_shipped_graph_is_read_as_onnx_reads_it() -> None:
    graphs = sorted((ROOT / "models" / "catalogue").rglob("*.onnx"))
    assert graphs
    for path in graphs:
        read = onnx.load(path, load_external_data=False)
        told = [e.value for t in read.graph.initializer for e in t.external_data if e.key == "location"]
        assert external_files(path) == list(dict.fromkeys(told))


@pytest.mark.parametrize("content", [b"x", b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 40, bytes(range(256))])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "main.onnx"
    path.write_bytes(content)
    with pytest.raises(GraphMismatch):
        external_files(path)
