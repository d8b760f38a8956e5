"""Weights of a text model's graphs as 8-bit integers, and what that changes in what it writes, measured before it is kept.

ONNX Runtime's dynamic quantisation: weights are integers with a scale for each output, activations are quantised as they
come. Seven of the eight bits are used, because processors without the newer integer instructions saturate above. Graphs
that see images stay as they are. The drift is measured against the float graphs, which were proved equal to torch: on fixed
pictures both are fed the words the float model chooses, and at each place their logits and their likeliest words are compared.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.adapters.reading import ReadingAdapter
from models.card import CARD_FILE, Card, file_digest
from models.errors import QuantisationRefused
from models.export.card_text import toml_text
from models.export.graph_export import data_path, golden_path
from models.export.imported import Imported
from models.generation.pictures import picture_of_grey
from models.golden import write_golden
from models.model import Model
from models.session import CPU, Session

MOST_CHANGED = 0.05
"""Share of words that may change unless somebody asks for more."""
_LONGEST = 48
_SIDE = 256
_GOLDEN_TOLERANCE = 0.03
"""Another processor rounds an activation to its neighbour: far more than float noise, far less than a broken kernel."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far 8-bit weights are from float ones.

    Attributes
    ----------
    places : int
        Words compared.
    changed : float
        Share of places at which the likeliest word is another one, after the same words.
    largest, mean : float
        Difference of a logit.
    spread : float
        Standard deviation of the float logits, which the differences are to be held against.
    """

    places: int
    changed: float
    largest: float
    mean: float
    spread: float


class _Swapped:
    """A model with some graphs in place of its own."""

    def __init__(self, model: Model, graphs: Mapping[str, Path]) -> None:
        self._model = model
        self._sessions = {name: Session(path, providers=(CPU,)) for name, path in graphs.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def session(self, name: str) -> Session:
        return self._sessions.get(name) or self._model.session(name)


def to_eight_bits(imported: Imported, folder: Path, *, most_changed: float = MOST_CHANGED) -> Imported:
    """Quantise the text graphs of a converted model, in its folder, and say so in its card.

    Raises
    ------
    QuantisationRefused
        It writes no text from an image, or more than ``most_changed`` of its words change.
    """
    if imported.card.options.get("reads") != "image":
        raise QuantisationRefused(f"{imported.card.id} has no graph that writes text; import it with float weights")
    model = Model(folder)
    names = ("encoder", "decoder") if model.card.options["architecture"] == "prompt_encoder" else ("decoder",)
    made = {name: _quantised(folder / model.card.graphs[name].file) for name in names}
    drift = measured_drift(ReadingAdapter(model), ReadingAdapter(_Swapped(model, made)))  # type: ignore[arg-type]
    if drift.changed > most_changed:
        raise QuantisationRefused(
            f"{imported.card.id}: 8-bit weights change {drift.changed:.1%} of {drift.places} words, allowed are "
            f"{most_changed:.1%}; logits differ by {drift.mean:.2g} in the mean (their spread is {drift.spread:.2g})",
            changed=drift.changed,
        )
    before = sum(_size(folder / model.card.graphs[name].file) for name in names)
    weights = {
        "kind": "int8",
        "graphs": {name: path.name for name, path in made.items()},
        "bytes": sum(_size(path) for path in made.values()),
        "bytes_float": before,
        "drift": {key: round(value, 6) for key, value in asdict(drift).items()},
    }
    return replace(imported, card=_rewritten(model.card, folder, made, drift), weights=weights)


def measured_drift(ours: ReadingAdapter, other: ReadingAdapter) -> Drift:
    """Drift of ``other`` from ``ours`` on fixed pictures, in every language, after the words ``ours`` chooses."""
    pairs = [
        pair
        for grey in pictures()
        for language in ours.options.languages
        for pair in _told(ours, other, grey, language)
    ]
    first, second = (np.stack(each).astype(np.float64) for each in zip(*pairs, strict=True))
    away = np.abs(first - second)
    return Drift(
        places=len(pairs),
        changed=float((first.argmax(-1) != second.argmax(-1)).mean()),
        largest=float(away.max()),
        mean=float(away.mean()),
        spread=float(first.std()),
    )


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """Grey levels (256, 256) that differ from each other: noise, rings, a ramp, either half bright."""
    rng = np.random.default_rng(0)
    steps = np.linspace(-3, 3, _SIDE)
    noise = rng.integers(0, 60, (_SIDE, _SIDE))
    left = np.broadcast_to(steps < 0, (_SIDE, _SIDE))
    yield rng.integers(0, 256, (_SIDE, _SIDE)).astype(np.uint8)
    yield ((np.add.outer(steps**2, steps**2) % 2) * 127).astype(np.uint8)
    yield np.add.outer(np.arange(_SIDE) // 2, np.arange(_SIDE) // 2).astype(np.uint8)
    yield (left * 190 + noise).astype(np.uint8)
    yield (~left * 190 + noise).astype(np.uint8)


def _told(
    ours: ReadingAdapter, other: ReadingAdapter, grey: npt.NDArray[np.uint8], language: str
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    picture, decoding = picture_of_grey(grey, ours.options.image), ours.options.decoding
    targets = ours.options.targets
    words = {"target": targets[0].phrase, "definition": targets[0].definition} if targets else {}
    question = ours.question(language, **words)
    first, second = ours.reader(picture, question, language), other.reader(picture, question, language)
    logits = first.start()[0], second.start()[0]
    for _ in range(min(_LONGEST, decoding.maximum_tokens)):
        yield logits
        token = int(logits[0].argmax())
        if token in decoding.stop_tokens:
            return
        logits = first.step([token])[0], second.step([token])[0]


def _quantised(graph: Path) -> Path:
    path = graph.with_name(f"{graph.stem}-int8.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=data_path(graph).exists(),
        )
    nodes = onnx.load(str(path), load_external_data=False).graph.node
    if not any(node.op_type == "MatMulInteger" for node in nodes):
        raise QuantisationRefused(f"{graph.name} holds no weights that can be quantised")
    return path


def _size(graph: Path) -> int:
    return sum(path.stat().st_size for path in (graph, data_path(graph)) if path.exists())


def _rewritten(card: Card, folder: Path, made: Mapping[str, Path], drift: Drift) -> Card:
    """The card with the new graphs, their known answers and what was measured; the float graphs are removed."""
    told = (folder / CARD_FILE).read_text(encoding="utf-8")
    content = tomllib.loads(told)
    for name, path in made.items():
        old = folder / card.graphs[name].file
        golden = golden_path(path)
        _answer(golden_path(old), path, golden)
        content["graphs"][name] |= {"file": path.name, "sha256": file_digest(path)}
        pinned = {"file": golden.name, "sha256": file_digest(golden), "tolerance": _GOLDEN_TOLERANCE}
        content["golden"][name] = pinned
        content.get("files", {}).pop(f"{name}_data", None)
        if data_path(path).exists():
            data = data_path(path)
            content.setdefault("files", {})[f"{name}_data"] = {"file": data.name, "sha256": file_digest(data)}
        for left in (old, data_path(old), golden_path(old)):
            left.unlink(missing_ok=True)
    measured = (
        f"{drift.changed:.1%} of {drift.places} words are other ones than with float weights, after the same words; logits "
        f"differ by {drift.mean:.2g} in the mean and {drift.largest:.2g} at most, their spread is {drift.spread:.2g}"
    )
    content["name"] += " (8-bit weights)"
    content["version"] += "+int8"
    content["caveats"] = [*content.get("caveats", []), f"Weights are quantised to 8 bits: {measured}."]
    content.setdefault("provenance", {})["weights"] = f"int8, dynamic, of {', '.join(made)}; made for CPUs"
    comments = "".join(f"{line}\n" for line in told.splitlines() if line.startswith("#"))
    (folder / CARD_FILE).write_text(f"{comments}\n{toml_text(content)}", encoding="utf-8")
    return Card.load(folder)


def _answer(old: Path, graph: Path, golden: Path) -> None:
    """The quantised graph's own known answer to the inputs of the float one's."""
    with np.load(old, allow_pickle=False) as stored:
        inputs = {name[3:]: stored[name] for name in stored.files if name.startswith("in:")}
    session = Session(graph, providers=(CPU,))
    write_golden(golden, inputs, session.run(inputs, session.outputs))
