"""A decoder that onnxruntime-genai's builder wrote, in the place of the one a converter wrote.

The builder (microsoft/onnxruntime-genai, ``src/python/py/models/builder.py``, read at 0.18.0) fuses attention, turning and cache
into one operator, ``GroupQueryAttention``. It names the cache ``past_key_values.N.key`` and ``present.N.key``, both (rows, heads
of keys, tokens, head size) as here, takes ``attention_mask`` (rows, tokens so far) in place of an additive mask, and answers
after every token. Here the names become ours, and only the last token is answered.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.card import CARD_FILE, Card
from models.errors import CheckpointMismatch, ExportFailed, GraphMismatch, InferenceFailed, ModelError, OutsideData
from models.export.card_graphs import put_graph, write_card
from models.export.four_bit import LOGITS, head_of
from models.export.graph_export import LARGEST_FILE, TOLERANCE, Exported, data_path, golden_path
from models.export.imported import Imported
from models.external_data import external_files
from models.generation.masks import causal_mask
from models.golden import write_golden
from models.session import CPU, Session

PRODUCER = "onnxruntime-genai"
GRAPH_FILE = "model.onnx"
_CACHE = re.compile(r"(past_key_values|present)\.(\d+)\.(key|value)")
_COMPARED = ((1, 0, 6), (3, 7, 1), (1, 5, 3))
"""Rows, tokens in the cache, new tokens. Pieces of a prompt in several rows are beyond the operator, and the loop has none."""

Arrays = dict[str, npt.NDArray[Any]]


def to_built(imported: Imported, folder: Path, built: Path) -> Imported:
    """Put the decoder in ``built`` in the place of a converted model's own, once both answer the same.

    Parameters
    ----------
    built : Path
        What the builder wrote with ``-p fp32 -e cpu --extra_options exclude_embeds=true``.

    Raises
    ------
    CheckpointMismatch
        The model has no decoder of that kind, or the builder's graph is of another kind or precision.
    ExportFailed
        It answers other than the converter's own, which was proved equal to torch.
    OutsideData
        It takes data from outside its folder.
    """
    card = imported.card
    _require_plain_attention(card)
    model = _read(built)
    _rename(model.graph)
    _require_takes(model.graph, card)
    _answer_last(model.graph)
    own = folder / card.graphs["decoder"].file
    path = own.with_name(f"{own.stem}-genai.onnx")
    _save(model, path)
    try:
        differences = _compared(own, path, card)
    except ModelError:
        path.unlink()
        data_path(path).unlink(missing_ok=True)
        raise
    exported = Exported(
        path, PRODUCER, _opset(model), _names(model.graph.input), _names(model.graph.output), differences
    )
    content = tomllib.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
    stated = {"inputs": list(exported.inputs), "outputs": list(exported.outputs), "opset": exported.opset}
    others = tuple(each for each in imported.graphs if each.path != own)
    put_graph(content, "decoder", own, path, **stated)
    version = model.producer_version.split("+")[0]
    content.setdefault("provenance", {})["decoder"] = f"built by {PRODUCER} {version}"
    return replace(imported, card=write_card(content, folder), graphs=(*others, exported))


def _require_plain_attention(card: Card) -> None:
    options = card.options
    if options.get("reads") != "image" or options.get("architecture") != "decoder":
        raise CheckpointMismatch(f"{card.id} has no decoder that reads embeddings; import it without --decoder")
    inputs = card.graphs["decoder"].inputs
    if "mask_sliding" in inputs or options.get("prompt", {}).get("image_sees_itself"):
        raise CheckpointMismatch(
            f"{card.id}: tokens of an image see each other, or layers look at a window only: the builder's attention sees what "
            "came before and all of it; import it without --decoder"
        )


def _read(built: Path) -> onnx.ModelProto:
    path = built / GRAPH_FILE
    if not path.is_file():
        raise CheckpointMismatch(f"{built.name} holds no {GRAPH_FILE}: it is no folder of {PRODUCER}'s builder")
    for location in external_files(path):
        if len(PurePosixPath(location).parts) != 1 or location == ".." or (built / location).is_symlink():
            raise OutsideData(f"{GRAPH_FILE} takes data from outside its folder", file=location)
    model = onnx.load(str(path))
    if model.producer_name != PRODUCER:
        raise CheckpointMismatch(
            f"{GRAPH_FILE} was written by {model.producer_name or 'nobody it names'}, not {PRODUCER}"
        )
    return model


def _rename(graph: onnx.GraphProto) -> None:
    """Cache names as :mod:`models.generation.wiring` follows them."""
    names = {}
    for value in (*graph.input, *graph.output):
        if found := _CACHE.fullmatch(value.name):
            kind = "present" if found[1] == "present" else "past"
            names[value.name] = f"{kind}.{found[2]}.{found[3][0]}"
            value.name = names[value.name]
    for node in graph.node:
        for places in (node.input, node.output):
            for place, name in enumerate(places):
                places[place] = names.get(name, name)


def _require_takes(graph: onnx.GraphProto, card: Card) -> None:
    """Raises CheckpointMismatch where inputs and outputs are not those of this card's decoder."""
    inputs = {each.name: each.type.tensor_type for each in graph.input}
    if "input_ids" in inputs:
        raise CheckpointMismatch("the built decoder takes token ids: build it with --extra_options exclude_embeds=true")
    cache = card.options["cache"]
    past = {f"past.{layer}.{part}" for layer in range(cache["layers"]) for part in "kv"}
    # Places are an input only where they are no plain count.
    wanted = {"inputs_embeds", "attention_mask", *past, *(["position_ids"] if _by_sections(card) else [])}
    if odd := sorted(set(inputs) ^ wanted):
        raise CheckpointMismatch(f"the built decoder is not of {card.id}: inputs {', '.join(odd[:6])} differ")
    if _names(graph.output)[0] != LOGITS or len(graph.output) != len(past) + 1:
        raise CheckpointMismatch("the built decoder does not answer with logits and its cache")
    if any(inputs[name].elem_type != TensorProto.FLOAT for name in ("inputs_embeds", *past)):
        raise CheckpointMismatch(
            "the built decoder is not of float32: build it with -p fp32 -e cpu, and import it with --weights"
        )
    for name in past:
        sizes = [each.dim_value for each in inputs[name].shape.dim]
        if sizes[1] != cache["heads"] or sizes[3] not in (0, cache["head_size"]):
            raise CheckpointMismatch(f"the built decoder is not of {card.id}: {name} is of sizes {sizes}")


def _answer_last(graph: onnx.GraphProto) -> None:
    """Cut the tokens before the last one off before the last product, the largest there is."""
    head = head_of(graph)
    if head is None:
        raise CheckpointMismatch(
            "the built decoder's logits come from no product with float weights: build it with -p fp32"
        )
    ends = {f"last_token.{name}": value for name, value in (("start", -1), ("end", 2**62), ("axis", 1))}
    graph.initializer.extend(numpy_helper.from_array(np.array([value]), name) for name, value in ends.items())
    last = helper.make_node("Slice", [head.input[0], *ends], ["last_token"], name="last_token")
    place = next(number for number, node in enumerate(graph.node) if node is head or node == head)
    graph.node[place].input[0] = "last_token"
    graph.node.insert(place, last)
    shape = next(each for each in graph.output if each.name == LOGITS).type.tensor_type.shape
    shape.dim[1].dim_value = 1
    # What the builder states of values in between holds for all tokens.
    del graph.value_info[:]


def _save(model: onnx.ModelProto, path: Path) -> None:
    if sum(len(each.raw_data) for each in model.graph.initializer) > LARGEST_FILE:
        beside = data_path(path).name
        onnx.save(model, str(path), save_as_external_data=True, location=beside, size_threshold=1024)
    else:
        onnx.save(model, str(path))


def _compared(own: Path, path: Path, card: Card) -> tuple[float, ...]:
    """Largest relative difference of any output for each set of inputs; the known answer is left beside ``path``."""
    ours = Session(own, providers=(CPU,))
    with np.load(golden_path(own), allow_pickle=False) as stored:
        width = stored["in:inputs_embeds"].shape[-1]
    given = [_feeds(card, width, *sizes, seed=seed) for seed, sizes in enumerate(_COMPARED)]
    expected = [ours.run(feeds, ours.outputs) for feeds in given]
    del ours
    try:
        other = Session(path, providers=(CPU,))
    except GraphMismatch as error:
        raise CheckpointMismatch(f"the built decoder does not load: {error.message}") from error
    differences = []
    for feeds, answers in zip(given, expected, strict=True):
        rows, total = len(feeds["inputs_embeds"]), feeds["mask"].shape[-1]
        theirs = {**feeds, "attention_mask": np.ones((rows, total), dtype=np.int64)}
        theirs = {name: value for name, value in theirs.items() if name in other.inputs}
        try:
            found = other.run(theirs, other.outputs)
        except InferenceFailed as error:
            raise CheckpointMismatch(f"the built decoder does not run: {error.message}") from error
        differences.append(_difference(found, answers))
        if len(differences) == 1:
            write_golden(golden_path(path), theirs, answers)
    if not all(each <= TOLERANCE for each in differences):
        golden_path(path).unlink()
        raise ExportFailed(
            f"{card.id}: the built decoder differs from the node's own by {np.max(differences):.2e}, "
            f"allowed are {TOLERANCE:.0e}: it is of other weights"
        )
    return tuple(differences)


def _feeds(card: Card, width: int, rows: int, past: int, seq: int, *, seed: int) -> Arrays:
    """Inputs of the converter's own decoder, as :func:`models.export.language_graphs.export_decoder` compares them."""
    rng = np.random.default_rng(seed)
    cache = card.options["cache"]
    places = np.broadcast_to(np.arange(past, past + seq), (rows, seq))
    if _by_sections(card):
        places = np.stack([places, places // 2, places // 3])
    size = (rows, cache["heads"], past, cache["head_size"])
    return {
        "inputs_embeds": rng.standard_normal((rows, seq, width), dtype=np.float32),
        "position_ids": np.ascontiguousarray(places, dtype=np.int64),
        "mask": causal_mask(seq, past + seq),
        **{
            f"past.{layer}.{part}": rng.standard_normal(size, dtype=np.float32)
            for layer in range(cache["layers"])
            for part in "kv"
        },
    }


def _difference(found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]]) -> float:
    worst = 0.0
    for name, answer in expected.items():
        if found[name].shape != answer.shape:
            raise ExportFailed(f"the built decoder's {name} has shape {found[name].shape}, ours {answer.shape}")
        scale = max(float(np.abs(answer).max(initial=0.0)), 1e-6)
        worst = float(np.max([worst, np.abs(found[name] - answer).max(initial=0.0) / scale]))
    return worst


def _by_sections(card: Card) -> bool:
    return card.options.get("prompt", {}).get("positions") == "sections"


def _names(values: Iterable[onnx.ValueInfoProto]) -> tuple[str, ...]:
    return tuple(each.name for each in values)


def _opset(model: onnx.ModelProto) -> int:
    return next(each.version for each in model.opset_import if not each.domain)
