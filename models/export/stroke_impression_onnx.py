"""Write the stroke-impression network as two ONNX graphs and compare them with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.export import Dim

from models.export.stroke_impression_network import ImpressionNetwork
from models.generation.limits import Limits
from models.generation.strategies import Strategy, write
from models.generation.wiring import CacheShape, EncoderDecoder
from models.session import Session

OPSET = 20
TOLERANCE = 1e-4
"""Largest difference allowed between torch and ONNX Runtime, absolute; logits are of order 10."""
SIZES = ((1, 1, 0), (2, 3, 5), (3, 2, 17))
"""Batch, steps and cached steps at which the graphs are compared; the trace itself uses (2, 3, 5)."""


def cache_names(layers: int, prefix: str) -> list[str]:
    """Names of the key and value tensors of each layer: ``prefix.0.k``, ``prefix.0.v``, …"""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("k", "v")]


def export_network(network: ImpressionNetwork, folder: Path) -> dict[str, Any]:
    """Write ``encoder.onnx`` and ``decoder.onnx`` into ``folder``.

    Returns
    -------
    dict
        Which exporter wrote each graph, and the largest difference from torch over :data:`SIZES`.

    Raises
    ------
    ValueError
        A graph differs from torch by more than :data:`TOLERANCE`, or a dynamic size was frozen.
    """
    shape = network.shape
    cross, past, present = (cache_names(shape.decoder_layers, p) for p in ("cross", "past", "present"))
    batch, steps, cached = Dim("batch", min=1, max=64), Dim("steps", min=1, max=64), Dim("cached", min=0, max=512)
    views, fact_ids, ids, places, cache, cross_values = _inputs(network, 2, 3, 5)
    encoder_by = _export(
        network.encoder, (views, fact_ids), folder / "encoder.onnx", ["views", "fact_ids"], cross,
        ({0: batch}, {0: batch}), {"views": {0: "batch"}, "fact_ids": {0: "batch"}},
    )  # fmt: skip
    axes = {name: {0: "batch", 2: "cached"} for name in past} | {name: {0: "batch"} for name in cross}
    decoder_by = _export(
        network.decoder, (ids, places, cache, cross_values), folder / "decoder.onnx",
        ["input_ids", "position_ids", *past, *cross], ["logits", *present],
        ({0: batch, 1: steps}, {0: batch, 1: steps}, [{0: batch, 2: cached}] * len(past), [{0: batch}] * len(cross)),
        axes | {"input_ids": {0: "batch", 1: "steps"}, "position_ids": {0: "batch", 1: "steps"}},
    )  # fmt: skip
    for name in ("encoder", "decoder"):
        strip_traces(folder / f"{name}.onnx")
    difference = parity(network, folder)
    if difference > TOLERANCE:
        raise ValueError(f"the graphs differ from torch by {difference:.2e}, allowed are {TOLERANCE:.0e}")
    return {"encoder": encoder_by, "decoder": decoder_by, "opset": OPSET, "largest_difference": difference}


def _export(
    module: nn.Module,
    arguments: tuple[Any, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    dynamic: Any,
    axes: dict[str, dict[int, str]],
) -> str:
    """Write one graph by the dynamo exporter, else by the legacy one; return which."""
    try:
        torch.onnx.export(
            module, arguments, str(path), input_names=inputs, output_names=outputs, dynamic_shapes=dynamic,
            opset_version=OPSET, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        return "dynamo"
    except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        print(f"dynamo could not export {path.name} ({type(error).__name__}); legacy exporter")
    torch.onnx.export(
        module, arguments, str(path), input_names=inputs, output_names=outputs, dynamic_axes=axes,
        opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    return "legacy"


def identical_texts(
    network: ImpressionNetwork,
    folder: Path,
    samples: Sequence[tuple[torch.Tensor, torch.Tensor]],
    starts: Sequence[int],
    stop: int,
) -> tuple[int, int]:
    """Decode ``samples`` (views and fact ids, batches of 1) greedily by torch and by the node's loop on the graphs.

    Returns
    -------
    tuple of int
        Texts that are the same token for token, and texts in all.
    """
    shape = network.shape
    encoder, decoder = (Session(folder / f"{name}.onnx", threads=1) for name in ("encoder", "decoder"))
    cache = CacheShape(shape.decoder_layers, shape.heads, shape.head)
    same = 0
    for views, fact_ids in samples:
        for start in starts:
            feeds = {"views": views.numpy(), "fact_ids": fact_ids.numpy()}
            model = EncoderDecoder(decoder, encoder.run(feeds), cache, [start])
            tokens = write(model, Strategy(), Limits(shape.text, (stop,))).tokens
            same += list(tokens) == network.greedy(views, fact_ids, start, stop)
    return same, len(samples) * len(starts)


def strip_traces(path: Path) -> None:
    """Remove what the exporter notes of the machine it ran on: stack traces with paths, documentation strings."""
    graph = onnx.load(path)
    for part in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output, graph.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for function in graph.functions:
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    del graph.metadata_props[:]
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _inputs(network: ImpressionNetwork, batch: int, steps: int, cached: int) -> tuple[Any, ...]:
    shape, random = network.shape, torch.Generator().manual_seed(batch * 100 + steps)
    views = torch.rand(batch, 3, shape.channels, shape.view_pixels, shape.view_pixels, generator=random)
    fact_ids = torch.randint(shape.vocabulary, (batch, shape.facts), generator=random)
    ids = torch.randint(shape.vocabulary, (batch, steps), generator=random)
    places = torch.arange(cached, cached + steps)[None].expand(batch, -1).contiguous()
    layers = 2 * shape.decoder_layers
    cache = [torch.randn(batch, shape.heads, cached, shape.head, generator=random) for _ in range(layers)]
    with torch.no_grad():
        cross = [tensor.contiguous() for tensor in network.encoder(views, fact_ids)]
    return views, fact_ids, ids, places, cache, cross


def parity(network: ImpressionNetwork, folder: Path, sizes: Sequence[tuple[int, int, int]] = SIZES) -> float:
    """Return the largest absolute difference between torch and the graphs in ``folder`` over ``sizes``."""
    encoder, decoder = (
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder")
    )
    layers, worst = network.shape.decoder_layers, 0.0
    for size in sizes:
        views, fact_ids, ids, places, cache, cross = _inputs(network, *size)
        with torch.no_grad():
            expected = network.decoder(ids, places, cache, cross)
        got_cross = encoder.run(None, {"views": views.numpy(), "fact_ids": fact_ids.numpy()})
        feeds = {"input_ids": ids.numpy(), "position_ids": places.numpy()}
        feeds |= dict(zip(cache_names(layers, "past"), (t.numpy() for t in cache), strict=True))
        feeds |= dict(zip(cache_names(layers, "cross"), got_cross, strict=True))
        got = decoder.run(None, feeds)
        for ours, theirs in zip((*got_cross, *got), (*cross, *expected), strict=True):
            worst = float(np.max([worst, np.abs(ours - theirs.numpy()).max()]))
    return worst
