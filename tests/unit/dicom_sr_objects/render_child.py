"""Render a study in a process of its own, at a given time, with random generators that refuse: ``FOLDER OUT SECONDS``."""

from __future__ import annotations

import datetime
import os
import random
import sys
import time
import uuid
from pathlib import Path

REAL = datetime.datetime


def refuse(*_: object) -> None:
    raise AssertionError("something random was asked for while rendering")


def set_clock(seconds: float) -> None:
    class Frozen(REAL):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return REAL.fromtimestamp(seconds, tz)

        today = utcnow = now

    datetime.datetime = Frozen  # type: ignore[misc]
    time.time = lambda: seconds


def main(folder: Path, out: Path, seconds: float) -> None:
    set_clock(seconds)
    from dicom_sr.check import check
    from dicom_sr.document import render
    from dicom_sr.profile import OBJECT_KINDS
    from dicom_sr.series import load_study
    from dicom_sr.write import write_objects
    from tests.generators.results import found, not_assessed, nothing_found
    from tests.unit.dicom_sr_objects.cases import blocks, context, trace_of

    uuid.uuid4 = os.urandom = random.random = refuse  # type: ignore[assignment]
    study = load_study([folder])
    source = trace_of(study)
    mask = blocks(source.volume.array_zyx.shape)
    for name, result in (
        ("found", found(mask, source.volume.voxel_ml)),
        ("nothing", nothing_found()),
        ("status", not_assessed()),
    ):
        used = None if name == "status" else source
        objects = render(result, study, context(objects=OBJECT_KINDS, maximum_series=len(OBJECT_KINDS)), used)
        check(objects, study, result, used)
        (out / name).mkdir(parents=True)
        write_objects(objects, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
