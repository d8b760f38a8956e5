"""`make demo`: fresh clone → node and test PACS on loopback → a stroke study in → results out, committed.

Everything is done with the commands an operator has; what came back is left in ``demo/out``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pydicom import dcmread
from rich.console import Console

from demo.montage import draw_montage
from demo.report import ReturnedObject, read_objects, readable_report
from demo.scene import Scene, study_files
from demo.timing import latency_of, print_latency
from dicom_sr.phantom_study import write_phantom_study
from models.errors import NodeError
from models.phantom import make_phantom

OUT = Path(__file__).resolve().parent / "out"
_SEED = 7
_TIMEOUT_SECONDS = 600.0


def main() -> int:
    """Run the demo; 0 when every result was committed."""
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument(
        "--study", type=Path, help="a folder with one diffusion study (default: a synthetic one is made)"
    )
    options.add_argument("--out", type=Path, default=OUT, help="where everything is left")
    chosen = options.parse_args()
    console = Console(highlight=False)
    try:
        return _run(console, chosen.study, chosen.out.resolve())
    except NodeError as error:
        console.print(f"[bold red]{error}[/]\n{error.remedy}")
        return 1
    except TimeoutError as error:
        console.print(f"[bold red]The demo did not finish:[/] {error}")
        return 1


def _run(console: Console, study: Path | None, out: Path) -> int:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if study is None:
        study = out / "study"
        with console.status("Making a synthetic stroke study (diffusion physics, T2 shine-through, noise) …"):
            write_phantom_study(make_phantom(_SEED), study, seed=_SEED)
    files = study_files(study)
    console.print(f"Study: {len(files)} DICOM files in {study}")
    with Scene(out) as scene:
        console.print(
            f"Node AINODE on 127.0.0.1:{scene.node_port}, test PACS on 127.0.0.1:{scene.pacs_port}, nothing else listens."
        )
        with console.status("Sending by C-STORE …"):
            scene.send(study)
        console.print(f"Sent {len(files)} images; each was acknowledged after it was safe on disk.")
        with console.status("Waiting for the study to be complete …") as status:
            scene.wait_until_committed(_TIMEOUT_SECONDS, lambda text: status.update(text))
        latency = latency_of(scene.story())
        story = scene.why()
    objects = read_objects(out / "pacs", out)
    _show(console, objects, files, out, story)
    print_latency(console, latency)
    return 0


def _show(console: Console, objects: list[ReturnedObject], files: list[Path], out: Path, story: str) -> None:
    report = readable_report(objects)
    (out / "report.txt").write_text(report, encoding="utf-8")
    (out / "why.txt").write_text(story, encoding="utf-8")
    console.rule("What came back, committed")
    for each in objects:
        console.print(f"  {each.path.name:<22} {each.title}")
    segmentation = next((each.path for each in objects if each.is_segmentation), None)
    draw_montage(_sources(objects, files), segmentation, out / "montage.png", "AI draft, not reviewed by a physician")
    console.rule("Report")
    console.print(report, markup=False)
    console.print(f"Objects, report.txt, why.txt and montage.png are in {out}")


def _sources(objects: list[ReturnedObject], files: list[Path]) -> list[Path]:
    """The files of the series that the results speak of; the first series when none is named."""
    series = next((each.source_series for each in objects if each.source_series), None)
    by_series: dict[str, list[Path]] = {}
    for path in files:
        by_series.setdefault(
            str(dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID), []
        ).append(path)
    return by_series.get(series or "", next(iter(by_series.values())))


if __name__ == "__main__":
    sys.exit(main())
