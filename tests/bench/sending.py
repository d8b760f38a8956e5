"""Rows `send.*`: our sending path and storescu towards DCMTK storescp."""

from __future__ import annotations

from tests.bench.figures import Row, Target, row
from tests.bench.images import ImageMaker
from tests.bench.servers import storescp
from tests.bench.stage import BenchmarkFailed, Sample, Stage, alternate, in_child, timed
from tests.peers import require


def ct(stage: Stage) -> list[Row]:
    """CT slices of 0.5 MB."""
    return [*_prompt(stage, "ct"), _default(stage, "ct")]


def mr(stage: Stage) -> list[Row]:
    """MR slices of 33 kB."""
    return [*_prompt(stage, "mr"), _default(stage, "mr")]


def _prompt(stage: Stage, kind: str) -> list[Row]:
    count = stage.size.images[kind]
    ours, theirs = _sent(stage, kind, count, prompt=True)
    how = f"to storescp, TCP_NODELAY at both ends, {count} instances; ours without Python's imports"
    return [
        row(
            f"send.{kind}.{part}",
            [getattr(each, attribute) * 1000 / count for each in ours],
            "ms/instance",
            peer="dcmtk storescu",
            peers=[getattr(each, attribute) * 1000 / count for each in theirs],
            target=target,
            how=f"{text} {how}",
            filesystem=stage.scratch.filesystem,
        )
        for part, attribute, target, text in (
            ("cpu", "sender_cpu", Target("ratio", 0.5), "CPU of the sender"),
            ("wall", "wall", None, "wall time"),
        )
    ]


def _default(stage: Stage, kind: str) -> Row:
    count = stage.size.stalling
    ours, theirs = _sent(stage, kind, count, prompt=False)
    return row(
        f"send.{kind}_default.wall",
        [each.wall * 1000 / count for each in ours],
        "ms/instance",
        peer="dcmtk storescu, default",
        peers=[each.wall * 1000 / count for each in theirs],
        target=Target("ratio", 0.1),
        how=f"wall time to storescp as it comes (Nagle's algorithm on), {count} instances",
        filesystem=stage.scratch.filesystem,
    )


def _sent(stage: Stage, kind: str, count: int, *, prompt: bool) -> list[list[Sample]]:
    """Samples of ours and of storescu; the same files go to the same server, which overwrites them."""
    files = ImageMaker().write(kind, count, stage.folder(stage.scratch) / "images")[0]
    with storescp(stage.scratch, stage.folder(stage.scratch), prompt=prompt) as server:

        def we() -> Sample:
            measured = in_child("send", server.port, files)
            return Sample(measured["wall"], sender_cpu=measured["cpu"])

        def they() -> Sample:
            command = [require("storescu"), "-xe", "-aec", "BENCH", "+sd", "127.0.0.1", str(server.port), str(files)]
            return timed([command], prompt=prompt)

        samples = alternate(stage.size.repeats, [we, they])
        if server.stored() != count:
            raise BenchmarkFailed(f"{server.name} has {server.stored()} of {count} instances")
    return samples
