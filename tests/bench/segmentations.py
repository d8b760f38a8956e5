"""Rows `seg.binary_*`, `seg.labelmap_*` and `seg.whole_process_*`: large masks beside the least they could cost and dcmqi."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.warm import prewarm
from dicom_sr.write import write_objects
from tests.bench.figures import Row, Target, row
from tests.bench.many_segments import Mask, context, load, make_mask, write_dcmqi_input, write_series
from tests.bench.stage import BenchmarkFailed, Stage, alternate, timed
from tests.peers import require

_COUNTS = (1, 10, 100)
_LARGEST_LABEL_MAP_MB = 3.0


def native(stage: Stage) -> list[Row]:
    """BINARY from a mask to a file, beside packing the same frames and writing them."""
    folder = _series(stage)
    prewarm()
    return [_binary(stage, folder, count) for count in _COUNTS]


def _binary(stage: Stage, folder: Path, count: int) -> Row:
    study, source, result = load(folder, make_mask(stage.size.mask_zyx, count))
    assert result.segmentation is not None
    mask, out = result.segmentation.mask_zyx, stage.folder(stage.scratch)

    def write() -> None:
        write_objects(render(result, study, context(), source), out)

    def verify() -> None:
        check(render(result, study, context(), source), study, result, source)

    ours, least, checked = _cpu_ms(stage, write, lambda: _pack(mask, count, out / "limit.bin"), verify)
    for path in out.iterdir():
        path.unlink()
    extra = float(np.median(checked)) - float(np.median(ours))
    return row(
        f"seg.binary_{count}",
        ours,
        "ms",
        peer="packbits and write of the same frames",
        peers=least,
        target=Target("ratio", 2.0),
        how=f"render, encode, digest, write; {_shape(stage)}, CPU, warm process; render and check take {extra:+.0f} ms",
        filesystem=stage.scratch.filesystem,
    )


def label_map(stage: Stage) -> list[Row]:
    """LABELMAP in RLE of a hundred segments: its size, and its time beside the same mask as bits."""
    folder, count, out = _series(stage), _COUNTS[-1], stage.folder(stage.scratch)
    study, source, result = load(folder, make_mask(stage.size.mask_zyx, count))
    prewarm()
    sizes: list[float] = []

    def write(**profile: object) -> None:
        (written,) = write_objects(render(result, study, context(**profile), source), out)
        if profile:
            sizes.append(written.size / 1e6)

    labels, bits = _cpu_ms(stage, lambda: write(segmentation="labelmap", segmentation_syntax="rle"), write)
    how = f"LABELMAP, RLE Lossless, {count} segments, {_shape(stage)}"
    make = partial(row, how=how, filesystem=stage.scratch.filesystem)
    return [
        make(f"seg.labelmap_{count}_size", sizes, "MB", target=Target("figure", _LARGEST_LABEL_MAP_MB)),
        make(f"seg.labelmap_{count}", labels, "ms", peer="the same as BINARY", peers=bits),
    ]


def whole_process(stage: Stage) -> list[Row]:
    """From files to a file in a process of its own, imports included, beside dcmqi."""
    folder, count, out = _series(stage), _COUNTS[-1], stage.folder(stage.scratch)
    mask = make_mask(stage.size.mask_zyx, count)
    np.save(out / "mask.npy", mask)
    image, segments = write_dcmqi_input(out, mask)
    ours = [sys.executable, "-m", "tests.bench.child", "segment", str(folder), str(out / "mask.npy"), str(out)]
    plain, node = ([*ours, how] for how in ("plain", "node"))
    theirs = [
        *(require("itkimage2segimage"), "--inputImageList", str(image), "--inputDICOMDirectory", str(folder)),
        *("--inputMetadata", str(segments), "--outputDICOM", str(out / "theirs.dcm")),
    ]
    taken = alternate(stage.size.repeats, [partial(timed, [command], prompt=True) for command in (plain, node, theirs)])
    if not (out / "theirs.dcm").is_file():
        raise BenchmarkFailed("dcmqi wrote nothing")
    mine, checked, other = ([sample.sender_cpu for sample in samples] for samples in taken)
    how = f"start, imports, {stage.size.mask_zyx[0]} headers, mask, BINARY of {count} segments, write and sync; CPU"
    more = "digests of the inputs and the check before sending besides, which dcmqi does not do"
    make = partial(row, unit="s", peer="dcmqi itkimage2segimage", peers=other, filesystem=stage.scratch.filesystem)
    return [
        make(f"seg.whole_process_{count}", mine, target=Target("ratio", 0.5), how=how),
        make(f"seg.whole_process_{count}_checked", checked, how=f"{how}; {more}"),
    ]


def _series(stage: Stage) -> Path:
    folder = stage.folder(stage.scratch) / "series"
    write_series(folder, stage.size.mask_zyx)
    return folder


def _shape(stage: Stage) -> str:
    return "x".join(map(str, stage.size.mask_zyx))


def _cpu_ms(stage: Stage, *actions: Callable[[], object]) -> list[list[float]]:
    def taken(action: Callable[[], object]) -> float:
        started = time.process_time()
        action()
        return (time.process_time() - started) * 1000

    return alternate(stage.size.repeats + 2, [partial(taken, action) for action in actions])


def _pack(mask: Mask, count: int, path: Path) -> None:
    """The least a BINARY segmentation takes: find the frames that hold something, pack, write, sync."""
    slices: list[list[int]] = [[] for _ in range(count + 1)]
    for k, plane in enumerate(mask):
        present = np.zeros(256, bool)
        present[plane.ravel()] = True
        for label in np.flatnonzero(present):
            slices[label].append(k)
    with path.open("wb") as stream:
        for label in range(1, count + 1):
            for k in slices[label]:
                stream.write(np.packbits(mask[k] == label, bitorder="little").data)
        stream.flush()
        os.fsync(stream.fileno())
