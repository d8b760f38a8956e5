"""Which version of ONNX's operators a graph is written in, read from the file before any runtime opens it."""

from __future__ import annotations

import mmap
from pathlib import Path

from models.errors import GraphMismatch
from models.wire_format import fields

_OPSET_IMPORT = (
    8  # of ModelProto; OperatorSetIdProto has the domain in field 1, the version in field 2 (onnx/onnx.proto)
)
_STANDARD = (b"", b"ai.onnx")


def opset_of(path: Path) -> int:
    """Version of the standard operators; 0 where the graph uses none.

    Raises
    ------
    GraphMismatch
        The file is no ONNX graph.
    """
    versions = [0]
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for each in fields(data, 0, len(data)):
                if each.number == _OPSET_IMPORT and each.value is None:
                    domain, version = b"", 0
                    for part in fields(data, each.first, each.last):
                        domain = data[part.first : part.last] if part.number == 1 else domain
                        version = part.value or 0 if part.number == 2 else version
                    if domain in _STANDARD:
                        versions.append(version)
    except (ValueError, IndexError) as error:
        raise GraphMismatch(f"{path.name} cannot be loaded: it is no ONNX graph") from error
    return max(versions)
