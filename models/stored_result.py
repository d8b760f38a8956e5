"""A typed result as one file: what a run said, to be written anew as other objects without running a model again.

The file is a ZIP archive with ``result.json`` and one NumPy file for each array. Nothing in it is ever executed:
``pickle`` is neither written nor read, and what is read goes into the declared types of :mod:`models.results` or is
refused. The same result gives the same bytes.
"""

from __future__ import annotations

import io
import json
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from models.errors import StoredResultDamaged
from models.results import ModelReference, StudyResult

__all__ = ["Grid", "StoredResult", "dump", "load"]

FORMAT = 1
_MEMBER = "result.json"
_ARRAY = "array"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP archive knows; a clock would change the bytes
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OSError, zipfile.BadZipFile, EOFError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels of a mask lie.

    Attributes
    ----------
    affine_lps : numpy.ndarray
        4×4 float64, as :attr:`models.volume.Volume.affine_lps`.
    shape_zyx : tuple of int
        Slices, rows, columns.
    frame_of_reference_uid : str
        Empty where the images name none.
    """

    affine_lps: npt.NDArray[np.float64]
    shape_zyx: tuple[int, int, int]
    frame_of_reference_uid: str


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result and what has to be known beside it.

    Attributes
    ----------
    result : StudyResult
        With the drafts in every language that was asked for.
    source_role : str
        Input role whose grid the mask has; empty where nothing was assessed.
    report_model : ModelReference or None
        Generator that was asked to write text.
    grid : Grid or None
        Of the source; None where nothing was assessed.
    """

    result: StudyResult
    source_role: str = ""
    report_model: ModelReference | None = None
    grid: Grid | None = None


def dump(stored: StoredResult) -> bytes:
    """Bytes of the file."""
    arrays: list[npt.NDArray[Any]] = []
    # The embedding is of the site's index of similar studies, which forgets by its own rules.
    result = replace(stored.result, embedding=None)
    if result.segmentation is not None:
        result = replace(result, segmentation=replace(result.segmentation, seeds_zyx=None))
    stored = replace(stored, result=result)
    content = {"format": FORMAT, "stored": _plain(stored, arrays)}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
        archive.writestr(_member(_MEMBER), text)
        for number, array in enumerate(arrays):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
            archive.writestr(_member(f"{_ARRAY}{number}.npy"), stream.getvalue())
    return target.getvalue()


def load(content: bytes) -> StoredResult:
    """The result that :func:`dump` was given.

    Raises
    ------
    StoredResultDamaged
        The bytes are no stored result, or one of another release's form.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            document = json.loads(archive.read(_MEMBER))
            if document["format"] != FORMAT:
                raise StoredResultDamaged(f"the stored result has form {document['format']}, not {FORMAT}")

            def array(number: int) -> npt.NDArray[Any]:
                stream = io.BytesIO(archive.read(f"{_ARRAY}{int(number)}.npy"))
                read: npt.NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
                return read

            made = _typed(document["stored"], StoredResult, array)
    except _DAMAGE as error:
        raise StoredResultDamaged(f"the stored result cannot be read ({type(error).__name__})") from error
    assert isinstance(made, StoredResult)
    return made


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


def _plain(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """Plain JSON; arrays go into ``arrays`` and leave their number."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return len(arrays) - 1
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each, arrays) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each, arrays) for each in value]
    return value


def _typed(value: Any, wanted: Any, array: Callable[[int], npt.NDArray[Any]]) -> Any:
    """``value`` as the declared type; what does not fit raises one of ``_DAMAGE``."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return _typed(value, next(part for part in parts if part is not type(None)), array)
    if origin is np.ndarray:
        return array(value)
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(_typed(each, parts[0], array) for each in value)
        return tuple(_typed(each, part, array) for each, part in zip(value, parts, strict=True))
    if origin is dict or wanted is Any:
        return value
    if is_dataclass(wanted) and isinstance(wanted, type):
        hints = get_type_hints(wanted)
        return wanted(**{name: _typed(each, hints[name], array) for name, each in value.items()})
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return wanted(value)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"{type(value).__name__} where {wanted} is declared")
    return value
