"""Bytes nobody would send, for a bounded time: ``make fuzz SECONDS=600`` takes longer."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

SECONDS = int(os.environ.get("AINODE_FUZZ_SECONDS", "5"))
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("target", "runs"), [("part10", 20_000), ("header", 1_000), ("scan", 1_000), ("command", 20_000), ("receiver", 60)]
)
def test_the_same_mutations_every_time(target: str, runs: int, tmp_path: Path) -> None:
    dice = random.Random(20261122)
    with TARGETS[target](tmp_path) as ready:
        for content in [*ready.corpus, *(mutated(dice, ready.corpus) for _ in range(runs))]:
            try:
                ready.run(content)
            except BaseException as error:
                raise AssertionError(f"{target} failed on {content.hex()}") from error


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 3 + 120)
@pytest.mark.parametrize("target", list(TARGETS))
def test_guided_by_coverage(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(SECONDS)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS * 3 + 100,
        check=False,
    )
    print(done.stdout[-500:], done.stderr[-500:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    assert "Done" in done.stdout + done.stderr
