"""Rows `receive.*` of whole sets of images: storescu towards our receiver, storescp and Orthanc."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.bench.figures import Row, Target, row
from tests.bench.images import ImageMaker
from tests.bench.servers import NODE, ORTHANC, STORESCP, Server, node_receiver, orthanc, storescp
from tests.bench.stage import BenchmarkFailed, Place, Sample, Stage, alternate, timed
from tests.peers import require

MODES = ("instance", "association")
_COUNT_SECONDS = 20.0
_WARM_UP = 4


def images(stage: Stage, *, kind: str, associations: int) -> list[Row]:
    """Images of a kind over so many associations at once: CT 0.5 MB, MR 33 kB, CR 14 MB."""
    name = f"receive.{kind}_{associations}assoc"
    count = stage.size.images[kind]
    # A process for each core, as `receive.processes` gives a node that many senders store to at once.
    receivers = min(associations, os.cpu_count() or 1)
    with servers(stage, stage.places, MODES, fork=associations > 1, receivers=receivers) as running:
        samples = _samples(stage, running, kind, count, associations=associations, prompt=True)
    how = f"storescu, TCP_NODELAY at both ends, {count} instances over {associations} association(s)"
    how += f", {receivers} receiver processes" if receivers > 1 else ""
    rows = []
    for server, ours in zip(running, samples, strict=True):
        if server.name != NODE:
            continue
        for part, what, text, peer_name, target in _judged(server.mode, associations):
            peer = beside(server, running, peer_name)
            rows.append(
                row(
                    f"{name}.{part}",
                    [_per(each, what, count) for each in ours],
                    "ms/instance",
                    peer=running[peer].name,
                    peers=[_per(each, what, count) for each in samples[peer]],
                    target=target,
                    how=f"{text} per instance; {how}",
                    filesystem=server.place.filesystem,
                    mode=server.mode,
                )
            )
    return rows


def _judged(mode: str, associations: int) -> tuple[tuple[str, str, str, str, Target | None], ...]:
    """Part, attribute, words, peer and target: those of a receiver that syncs later, and of one that syncs first."""
    cpu, beside_orthanc, durable = Target("ratio", 1.0), Target("ratio", 0.5), Target("ratio", 1.5)
    later = mode == "association"
    return (
        ("cpu", "receiver_cpu", "CPU of the receiver", STORESCP, cpu if later else None),
        # The stated limit for durable reception beside a storescp that syncs nothing.
        ("wall", "wall", "wall time", STORESCP, durable if not later and associations > 1 else None),
        ("wall", "wall", "wall time", ORTHANC, beside_orthanc if later else None),
    )


def default_nagle(stage: Stage, *, kind: str) -> list[Row]:
    """What users have who set nothing: DCMTK and Orthanc with Nagle's algorithm on, at both ends."""
    count = stage.size.stalling
    with servers(stage, stage.places[:1], MODES, prompt=False) as running:
        samples = _samples(stage, running, kind, count, associations=1, prompt=False)
    return [
        row(
            f"receive.{kind}_1assoc_default.wall",
            [_per(each, "wall", count) for each in ours],
            "ms/instance",
            peer=f"{peer.name}, default",
            peers=[_per(each, "wall", count) for each in theirs],
            how=f"wall time per instance; storescu and peers as they come (Nagle's algorithm on), {count} instances",
            filesystem=server.place.filesystem,
            mode=server.mode,
        )
        for server, ours in zip(running, samples, strict=True)
        if server.name == NODE
        for peer, theirs in zip(running, samples, strict=True)
        if peer.name != NODE
    ]


def _per(sample: Sample, what: str, count: int) -> float:
    """Milliseconds per instance; CPU time is counted in ticks, so never below half of one in total."""
    return max(float(getattr(sample, what)), 0.005) * 1000 / count


def beside(server: Server, running: Sequence[Server], name: str) -> int:
    """Where the peer of this name on the same file system stands."""
    return next(i for i, each in enumerate(running) if each.name.startswith(name) and each.place == server.place)


@contextmanager
def servers(
    stage: Stage,
    places: Sequence[Place],
    modes: Sequence[str],
    *,
    prompt: bool = True,
    fork: bool = False,
    receivers: int = 1,
) -> Iterator[list[Server]]:
    """Every receiver at once, ours first; who is not spoken to costs next to nothing."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(node_receiver(place, stage.folder(place), mode, processes=receivers))
            for place in places
            for mode in modes
        ]
        for place in places:
            running.append(stack.enter_context(storescp(place, stage.folder(place), prompt=prompt, fork=fork)))
            running.append(stack.enter_context(orthanc(place, stage.folder(place), prompt=prompt)))
        yield running


def _samples(
    stage: Stage, running: Sequence[Server], kind: str, count: int, *, associations: int, prompt: bool
) -> list[list[Sample]]:
    """Samples by server; each round sends one new set to every server."""
    maker, folder, parts = ImageMaker(), stage.folder(stage.scratch), list[str]()

    def prepare(repeat: int) -> None:
        shutil.rmtree(folder)
        made = maker.write(kind, _WARM_UP if repeat < 0 else count, folder, parts=associations)
        parts[:] = map(str, made)

    actions = [partial(_sent, server, parts, prompt=prompt) for server in running]
    return alternate(stage.size.repeats, actions, prepare=prepare)


def _sent(server: Server, parts: Sequence[str], *, prompt: bool) -> Sample:
    """One set to one server.

    Raises
    ------
    BenchmarkFailed
        The server has not all of it afterwards.
    """
    count = sum(len(list(Path(part).iterdir())) for part in parts)
    stored, before = server.stored(), server.cpu_seconds()
    base = [require("storescu"), "-xe", "-aec", "BENCH", "+sd", "127.0.0.1", str(server.port)]
    sample = timed([[*base, part] for part in parts], prompt=prompt)
    spent = server.cpu_seconds() - before
    deadline = time.monotonic() + _COUNT_SECONDS
    while server.stored() - stored < count:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{server.name} has {server.stored() - stored} of {count} instances")
        time.sleep(0.1)
    return Sample(sample.wall, spent, sample.sender_cpu)
