"""Rows `seg.*` and `volume.*`: DICOM in and DICOM out of a stroke study, without model and network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom_sr.check import check
from dicom_sr.document import render
from dicom_sr.phantom_study import write_phantom_study
from dicom_sr.series import load_study
from dicom_sr.warm import prewarm
from dicom_sr.write import write_objects
from models.phantom import LesionSpec, make_phantom
from tests.bench.figures import Row, Target, row
from tests.bench.stage import Stage, alternate
from tests.generators.results import found
from tests.unit.dicom_sr_objects.cases import Case, context, trace_of

_LESIONS = (LesionSpec(30.0, "left"), LesionSpec(12.0, "right"), LesionSpec(2.0, "left"))
_MORE_REPEATS = 4


def segmentation(stage: Stage) -> list[Row]:
    """From a mask to files: every object of a study, and the segmentation alone beside the least it could cost."""
    case, out = _stroke_study(stage), stage.folder(stage.scratch)
    prewarm()

    def write(*kinds: str) -> None:
        objects = render(case.result, case.study, context(objects=kinds), case.source)
        check(objects, case.study, case.result, case.source)
        write_objects(objects, out)

    whole, alone, least = _cpu_ms(
        stage,
        lambda: write("seg", "measurements", "text"),
        lambda: write("seg"),
        lambda: _pack(case, out / "limit.bin"),
    )
    shape = "x".join(map(str, case.source.volume.array_zyx.shape))
    how = f"render, check, write and sync; {shape}, {len(_LESIONS)} lesions, CPU, warm process"
    make = partial(row, unit="ms", filesystem=stage.scratch.filesystem)
    return [
        make("seg.stroke", whole, how=f"segmentation, measurements, text in two languages; {how}"),
        make(
            "seg.stroke_segmentation",
            alone,
            peer="packbits and write of the same frames",
            peers=least,
            target=Target("ratio", 3.0),
            how=f"segmentation alone; {how}; the target was set for 10 to 100 segments of 300x512x512",
        ),
    ]


def volume(stage: Stage) -> list[Row]:
    """From files to volumes, beside the plainest use of pydicom and the bare reading of the pixels."""
    files = list(_stroke_study(stage).files)
    ours, plain, least = _cpu_ms(stage, lambda: load_study(files), lambda: _plain(files), lambda: _read_pixels(files))
    how = f"load_study of {len(files)} files: headers, digests, geometry gate, rescaled volumes; CPU, warm cache"
    make = partial(row, "volume.stroke", ours, "ms", how=how, filesystem=stage.scratch.filesystem)
    return [
        make(peer="pydicom dcmread + pixel_array", peers=plain),
        make(peer="bare read of the pixel bytes", peers=least, target=Target("ratio", 2.0)),
    ]


def _stroke_study(stage: Stage) -> Case:
    shape = stage.size.shapes_zyx[-1]
    spacing = (146.0 / shape[0], 224.0 / shape[1], 224.0 / shape[2])
    phantom = make_phantom(3, shape_zyx=shape, spacing_mm_zyx=spacing, lesions=_LESIONS)
    written = write_phantom_study(phantom, stage.folder(stage.scratch), seed=3, include_b0=False)
    study = load_study(written.files)
    source = trace_of(study)
    return Case(written.files, study, source, found(written.truth_zyx, source.volume.voxel_ml), written)


def _cpu_ms(stage: Stage, *actions: Callable[[], object]) -> list[list[float]]:
    """CPU milliseconds by action."""

    def timed(action: Callable[[], object]) -> float:
        started = time.process_time()
        action()
        return (time.process_time() - started) * 1000

    return alternate(stage.size.repeats + _MORE_REPEATS, [partial(timed, action) for action in actions])


def _pack(case: Case, path: Path) -> None:
    """The least a BINARY segmentation takes: pack the frames that hold something, write, sync."""
    assert case.result.segmentation is not None
    mask = case.result.segmentation.mask_zyx
    with path.open("wb") as stream:
        for number in range(1, len(_LESIONS) + 1):
            present = mask == number
            stream.write(np.packbits(present[present.any(axis=(1, 2))], bitorder="little").tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _plain(files: Sequence[Path]) -> object:
    return np.stack([dcmread(path).pixel_array for path in files])


def _read_pixels(files: Sequence[Path]) -> object:
    """Only the pixel bytes, which stand last in each file, into one array."""
    first = dcmread(files[0], stop_before_pixels=True)
    size = first.Rows * first.Columns * 2
    pixels = np.empty((len(files), size), np.uint8)
    for number, path in enumerate(files):
        with path.open("rb", buffering=0) as stream:
            stream.seek(-size, os.SEEK_END)
            stream.readinto(memoryview(pixels[number]))
    return pixels
