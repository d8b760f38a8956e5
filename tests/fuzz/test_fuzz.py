"""Bytes nobody would send, for a bounded time: ``make fuzz SECONDS=600`` takes longer."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import BEGIN, END
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

SECONDS = int(os.environ.get("AINODE_FUZZ_SECONDS", "5"))
ROOT = Path(__file__).resolve().parent.parent.parent
_ALL_SECONDS = len(TARGETS) * (SECONDS * 3 + 40) + 120


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


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a guided search of each target printed."""
    folder = tmp_path_factory.mktemp("fuzz")
    with (folder / "said.txt").open("w+") as said:
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *TARGETS, "--seconds", str(SECONDS)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
            timeout=_ALL_SECONDS - 20,
            check=False,
        )
        said.seek(0)
        parts = re.split(rf"^{BEGIN}(.*)\n", said.read(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.slow
@pytest.mark.timeout(_ALL_SECONDS)
@pytest.mark.parametrize("target", list(TARGETS))
def test_guided_by_coverage(searched: dict[str, str], target: str) -> None:
    said = searched[target]
    print(said[-500:])
    assert "Done" in said and f"{END}{target} 0\n" in said, said[-5000:]
