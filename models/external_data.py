"""Which files beside itself an ONNX graph takes data from, read before any runtime opens it.

The names stand in the graph, and a runtime opens what they say: ``../../spool/…`` as well as weights. Only the wire format of
protocol buffers is needed to find them, in the fields that onnx/onnx ``onnx/onnx.proto`` names (IR version 10).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from models.card import Card, PinnedFile
from models.errors import GraphMismatch, OutsideData
from models.wire_format import sized

_DEEPEST = 64
# Message → field that may lead to a tensor → message there.
_LEADS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 25: "Function", 20: "Training"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}


def external_files(path: Path) -> list[str]:
    """Locations as the graph states them, each once, in order.

    Raises
    ------
    GraphMismatch
        The file is no ONNX graph.
    """
    found: dict[str, None] = {}
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for location in _locations(data, 0, len(data), "Model", 0):
                found[location] = None
    except (ValueError, IndexError) as error:
        raise GraphMismatch(f"{path.name} cannot be loaded: it is no ONNX graph") from error
    return list(found)


def pinned_data(folder: Path, card: Card, graph: Path) -> list[PinnedFile]:
    """The pinned files a graph takes data from; their digests are still to be looked at.

    Raises
    ------
    OutsideData
        It takes data from a file that is not pinned, or not a plain file in the model's folder.
    GraphMismatch
        The file is no ONNX graph.
    """
    pinned = {each.file: each for each in card.files.values()}
    found = []
    for location in external_files(graph):
        place = PurePosixPath(graph.relative_to(folder).parent, location)
        if (name := str(place)) not in pinned:
            raise OutsideData(f"{card.id}: {graph.name} takes data from a file that is not pinned", file=location)
        steps = [folder / each for each in (place, *place.parents)][:-1]
        if any(each.is_symlink() for each in steps) or not (folder / place).is_file():
            raise OutsideData(f"{card.id}: {name} is a link, or no file", file=location)
        found.append(pinned[name])
    return found


def _locations(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    for number, first, last in sized(data, start, end):
        inner = _LEADS[message].get(number)
        if inner == "Entry":
            texts = {key: data[a:b].decode("utf-8") for key, a, b in sized(data, first, last)}
            if texts.get(1) == "location":
                yield texts.get(2, "")
        elif inner is not None:
            yield from _locations(data, first, last, inner, depth + 1)
