"""The benchmark itself: figures are computed as stated, and it runs to the end."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.figures import Row, Target, percentile_95, row
from tests.bench.images import ImageMaker
from tests.bench.stage import ROOT, alternate


def test_row_takes_medians_and_pairs() -> None:
    made = row(
        "send.x", [2.0, 30.0, 4.0], "ms", how="so", peer="p", peers=[1.0, 10.0, 4.0], target=Target("ratio", 2.0)
    )
    assert (made.figure, made.ratio, made.met, made.target) == (4.0, 2.0, True, "ratio ≤ 2")
    assert row("model.x", [3.0], "s", how="so", target=Target("figure", 2.0)).met is False
    assert row("model.x", [3.0], "s", how="so").met is None
    assert percentile_95(range(100)) == 95


def test_nobody_always_comes_first() -> None:
    order: list[str] = []

    def act(name: str) -> str:
        order.append(name)
        return name

    results = alternate(3, [partial(act, "a"), partial(act, "b")])
    assert results == [["a"] * 3, ["b"] * 3]
    assert {order[at] for at in range(2, 8, 2)} == {"a", "b"}


def test_images_are_new_each_time(tmp_path: Path) -> None:
    maker = ImageMaker()
    files = [
        path for n in (1, 2) for part in maker.write("mr", 5, tmp_path / str(n), parts=2) for path in part.iterdir()
    ]
    assert len({path.read_bytes() for path in files}) == 10


def test_page_is_renewed_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.document(path, "new")
    assert path.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.BEGIN in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.parametrize(
    "prefix",
    ["receive.ct_1assoc_default", "send.mr", "seg.binary", "seg.whole", "volume", "latency", "model.generation"],
)
def test_quick_run(prefix: str, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--quick",
        "--only",
        prefix,
        "--out",
        str(out),
        "--disk",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["partial"] is True
    assert all(Row(**each).figure > 0 and each["how"] and each["name"].startswith(prefix) for each in content["rows"])
    assert content["rows"]
