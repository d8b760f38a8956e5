"""`make bench`: measure everything afresh, write bench/results.json, print the table; `--document` renews the page."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import (
    console_pages,
    dicomweb,
    generation,
    inference,
    latency,
    memory,
    objects,
    promptable,
    receiving,
    report,
    segmentations,
    sending,
    whole_node,
)
from tests.bench.figures import Row
from tests.bench.stage import FULL, MEMORY, QUICK, ROOT, BenchmarkFailed, Stage, place_of

RESULTS, PAGE = ROOT / "bench" / "results.json", ROOT / "docs" / "benchmarks.md"
MEASUREMENTS = {
    **{
        f"receive.{kind}_{associations}assoc": partial(receiving.images, kind=kind, associations=associations)
        for kind in ("ct", "mr", "cr")
        for associations in (1, 4)
    },
    "receive.ct_1assoc_default": partial(receiving.default_nagle, kind="ct"),
    "receive.mr_1assoc_default": partial(receiving.default_nagle, kind="mr"),
    "receive.cstore_latency": latency.single_operations,
    "receive.memory": memory.of_64_associations,
    "send.ct": sending.ct,
    "send.mr": sending.mr,
    "dicomweb.series": dicomweb.series,
    "seg.stroke": objects.segmentation,
    "seg.binary": segmentations.native,
    "seg.labelmap": segmentations.label_map,
    "seg.whole_process": segmentations.whole_process,
    "volume.stroke": objects.volume,
    "latency.last_image_to_committed": whole_node.last_image_to_committed,
    "web.pages": console_pages.pages,
    "model.infarct": inference.infarct,
    "model.medsam": promptable.medsam,
    "model.generation": generation.tokens,
}


def main() -> int:
    """Run what was asked for."""
    options = argparse.ArgumentParser(prog="make bench", description=__doc__)
    options.add_argument("--quick", action="store_true", help="tiny sizes: does it work? No figures are kept")
    options.add_argument(
        "--only", default="", metavar="PREFIX", help="measurements whose name begins so; nothing is kept"
    )
    options.add_argument(
        "--out", type=Path, help=f"where results go (default: {RESULTS.relative_to(ROOT)}, of whole runs)"
    )
    options.add_argument(
        "--disk", type=Path, default=Path(tempfile.gettempdir()), help="a folder on the disk to measure on"
    )
    options.add_argument("--document", action="store_true", help="only renew docs/benchmarks.md from the results")
    chosen = options.parse_args()
    console = Console(highlight=False)
    whole = not (chosen.quick or chosen.only)
    out = chosen.out or (RESULTS if whole else None)
    if chosen.document:
        return _document(console, chosen.out or RESULTS)
    started, load_before = time.monotonic(), os.getloadavg()[0]
    try:
        about = report.machine(load_before)
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        console.print(f"[red]{missing}[/]")
        return 1
    if load_before > 0.5:
        console.print(f"[yellow]The load average is {load_before:.1f}: trust the ratios, not the figures.[/]")
    rows, failed = _measured(console, quick=chosen.quick, only=chosen.only, disk=chosen.disk)
    if out is not None:
        about["load_after"] = round(os.getloadavg()[0], 1)
        report.save(out, rows, about, partial=bool(failed) or not whole)
    report.show(console, rows)
    console.print(f"{len(rows)} rows in {time.monotonic() - started:.0f} s" + (f", written to {out}" if out else ""))
    return 1 if failed else 0


def _measured(console: Console, *, quick: bool, only: str, disk: Path) -> tuple[list[Row], list[str]]:
    """Rows, and the names of the measurements that failed."""
    rows: list[Row] = []
    failed: list[str] = []
    memory = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    for name, measure in MEASUREMENTS.items():
        if not name.startswith(only):
            continue
        began = time.monotonic()
        folders = [Path(tempfile.mkdtemp(prefix="bench-", dir=parent)) for parent in (memory, disk)]
        try:
            with console.status(name):
                rows += measure(Stage(QUICK if quick else FULL, *map(place_of, folders)))
        except BenchmarkFailed as error:
            failed.append(name)
            console.print(f"[red]{name}: {error}[/]")
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        console.print(f"{name}: {time.monotonic() - began:.0f} s")
    return rows, failed


def _document(console: Console, results: Path) -> int:
    if not results.exists():
        console.print("There are no results: run `make bench` first.")
        return 1
    rows, about, partial = report.load(results)
    if partial:
        console.print("These are results of a part or of tiny sizes; the page is left as it is.")
        return 1
    report.document(PAGE, report.page(rows, about))
    console.print(f"{PAGE.relative_to(ROOT)} shows {len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
