"""``python -m tests.fuzz TARGET… --seconds N``: each target, guided by coverage where atheris is installed.

What breaks a target is written to ``build/fuzz`` and printed; the exit status is then not 0. The code is instrumented once,
which takes longer than a short search; every target has a process of its own, forked from there.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

FINDINGS = Path("build") / "fuzz"
BEGIN = "== begin of "
END = "== end of "
"""Before the name of a target and its exit status, on the line behind what it prints."""


def main() -> None:
    """Fuzz targets."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if importlib.util.find_spec("atheris"):
            _instrument()
            fuzz = _guided
        else:
            print("atheris is not installed here: mutations without guidance")
            fuzz = _unguided
        failed = []
        for target in arguments.targets:
            print(f"{BEGIN}{target}", flush=True)
            (Path(scratch) / target).mkdir()
            if (pid := os.fork()) == 0:
                _in_child(fuzz, target, arguments.seconds, arguments.seed, Path(scratch) / target)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(f"{END}{target} {code}", flush=True)
            if code:
                failed.append(target)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _in_child(fuzz: Callable[[str, int, int, Path], None], target: str, seconds: int, seed: int, scratch: Path) -> None:
    """Fuzz, and never come back to what the parent has to do."""
    code = 1
    try:
        fuzz(target, seconds, seed, scratch)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _instrument() -> None:
    import atheris

    # Only what stands between a peer and the spool; the rest would slow everything down.
    with atheris.instrument_imports(include=["node.archive", "node.dicom", "pydicom.filereader", "pynetdicom.dul"]):
        import tests.fuzz.targets  # noqa: F401  (imported for its weight)


def _guided(target: str, seconds: int, seed: int, scratch: Path) -> None:
    import atheris

    from tests.fuzz.targets import TARGETS

    corpus = scratch / "corpus"
    corpus.mkdir()
    context = TARGETS[target](scratch)
    ready = context.__enter__()  # libFuzzer ends the process itself, so that nothing behind it would run
    for number, content in enumerate(ready.corpus):
        (corpus / str(number)).write_bytes(content)
    limits = ["-max_len=4096", f"-rss_limit_mb={_peak_mb() + 2048}", "-timeout=25"]
    options = [f"-max_total_time={seconds}", f"-seed={seed}", *limits]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FINDINGS}/{target}-", str(corpus)], ready.run)
    atheris.Fuzz()


def _peak_mb() -> int:
    """Memory that counts as used already: on Linux a process inherits the peak of the one that started it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _unguided(target: str, seconds: int, seed: int, scratch: Path) -> None:
    from tests.fuzz.mutation import mutated
    from tests.fuzz.targets import TARGETS

    dice = random.Random(seed)
    until = time.monotonic() + seconds
    runs = 0
    with TARGETS[target](scratch) as ready:
        while time.monotonic() < until:
            content = mutated(dice, ready.corpus)
            try:
                ready.run(content)
            except BaseException:
                (FINDINGS / f"{target}-{seed}-{runs}").write_bytes(content)
                raise
            runs += 1
    print(f"Done {runs} runs of {target}")


if __name__ == "__main__":
    main()
