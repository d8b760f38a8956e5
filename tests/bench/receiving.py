"""Rows `receive.*`: storescu and a raw client towards our receiver, storescp and Orthanc."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.bench.figures import Row, Target, percentile_95, row
from tests.bench.images import ImageMaker
from tests.bench.raw_client import RawAssociation
from tests.bench.servers import NODE, ORTHANC, STORESCP, Server, node_receiver, orthanc, storescp
from tests.bench.stage import BenchmarkFailed, Place, Sample, Stage, alternate, timed
from tests.peers import require

MODES = ("instance", "association")
_COUNT_SECONDS = 20.0
_WARM_UP = 4
_ACCEPTS = 5


def ct_1assoc(stage: Stage) -> list[Row]:
    """CT slices of 0.5 MB over one association."""
    return _received(stage, "receive.ct_1assoc", "ct", associations=1)


def mr_1assoc(stage: Stage) -> list[Row]:
    """MR slices of 33 kB over one association."""
    return _received(stage, "receive.mr_1assoc", "mr", associations=1)


def mr_4assoc(stage: Stage) -> list[Row]:
    """MR slices over four associations at once."""
    return _received(stage, "receive.mr_4assoc", "mr", associations=4)


def default_nagle(stage: Stage) -> list[Row]:
    """What users have who set nothing: DCMTK and Orthanc with Nagle's algorithm on, at both ends."""
    count = stage.size.stalling
    with _servers(stage, stage.places[:1], MODES[:1], prompt=False) as servers:
        ours, *others = _samples(stage, servers, "ct", count, associations=1, prompt=False)
    return [
        row(
            "receive.ct_1assoc_default.wall",
            [_per(each, "wall", count) for each in ours],
            "ms/instance",
            peer=f"{server.name}, default",
            peers=[_per(each, "wall", count) for each in theirs],
            how=f"wall time per instance; storescu and peers as they come (Nagle's algorithm on), {count} instances",
            filesystem=server.place.filesystem,
            mode=MODES[0],
        )
        for server, theirs in zip(servers[1:], others, strict=True)
    ]


def single_operations(stage: Stage) -> list[Row]:
    """Latency of single operations: C-STORE of 33 kB, C-ECHO, association set-up."""
    files: list[Path] = []
    maker = ImageMaker()

    def prepare(repeat: int) -> None:
        files[:] = sorted(maker.write("mr", stage.size.latencies, stage.folder(stage.scratch))[0].iterdir())

    with _servers(stage, stage.places, MODES) as servers:
        actions = [partial(_operations, each, files) for each in servers]
        samples = alternate(stage.size.repeats, actions, prepare=prepare)
    pooled = [{key: [ms for each in taken for ms in each[key]] for key in taken[0]} for taken in samples]
    rows = []
    for index, server in enumerate(servers):
        if server.name == NODE:
            ours, theirs = pooled[index], pooled[_beside(server, servers, STORESCP)]
            store, echo, accept = (
                f"{len(ours[key])} samples, raw socket client" for key in ("store", "echo", "accept")
            )
            for name, key, summary, target, how in (
                ("cstore_latency.median", "store", statistics.median, Target("figure", 0.5), f"33 kB MR, {store}"),
                ("cstore_latency.p95", "store", percentile_95, Target("ratio", 2.0), f"33 kB MR, {store}"),
                ("echo", "echo", statistics.median, Target("figure", 1.0), f"C-ECHO, median, {echo}"),
                ("association_accept", "accept", statistics.median, Target("figure", 5.0), f"median, {accept}"),
            ):
                # Echo and set-up touch no file: one variant says it all.
                if key == "store" or index == 0:
                    row_of = partial(row, f"receive.{name}", [summary(ours[key])], "ms", peer=STORESCP)
                    where = {"filesystem": server.place.filesystem, "mode": server.mode} if key == "store" else {}
                    rows.append(row_of(peers=[summary(theirs[key])], target=target, how=how, **where))
    return rows


def _operations(server: Server, files: Sequence[Path]) -> dict[str, list[float]]:
    """Milliseconds by operation."""
    accepted = []
    for _ in range(_ACCEPTS):
        with RawAssociation(server.port) as association:
            accepted.append(association.accept_seconds * 1000)
    with RawAssociation(server.port) as association:
        echoed = [association.echo() * 1000 for _ in files]
        stored = [association.store(path) * 1000 for path in files]
    return {"accept": accepted, "echo": echoed, "store": stored}


def _received(stage: Stage, name: str, kind: str, *, associations: int) -> list[Row]:
    count = stage.size.images[kind]
    with _servers(stage, stage.places, MODES, fork=associations > 1) as servers:
        samples = _samples(stage, servers, kind, count, associations=associations, prompt=True)
    how = f"storescu, TCP_NODELAY at both ends, {count} instances over {associations} association(s)"
    rows = []
    for server, ours in zip(servers, samples, strict=True):
        if server.name != NODE:
            continue
        # The stated limit for durable reception beside a storescp that syncs nothing.
        durable = Target("ratio", 1.5) if server.mode == "instance" and associations > 1 else None
        for part, what, text, peer_name, target in (
            ("cpu", "receiver_cpu", "CPU of the receiver", STORESCP, Target("ratio", 1.0)),
            ("wall", "wall", "wall time", STORESCP, durable),
            ("wall", "wall", "wall time", ORTHANC, Target("ratio", 0.5)),
        ):
            peer = _beside(server, servers, peer_name)
            rows.append(
                row(
                    f"{name}.{part}",
                    [_per(each, what, count) for each in ours],
                    "ms/instance",
                    peer=servers[peer].name,
                    peers=[_per(each, what, count) for each in samples[peer]],
                    target=target,
                    how=f"{text} per instance; {how}",
                    filesystem=server.place.filesystem,
                    mode=server.mode,
                )
            )
    return rows


def _per(sample: Sample, what: str, count: int) -> float:
    """Milliseconds per instance; CPU time is counted in ticks, so never below half of one in total."""
    return max(float(getattr(sample, what)), 0.005) * 1000 / count


def _beside(server: Server, servers: Sequence[Server], name: str) -> int:
    """Where the peer of this name on the same file system stands."""
    return next(i for i, each in enumerate(servers) if each.name.startswith(name) and each.place == server.place)


@contextmanager
def _servers(
    stage: Stage, places: Sequence[Place], modes: Sequence[str], *, prompt: bool = True, fork: bool = False
) -> Iterator[list[Server]]:
    """Every receiver at once, ours first; who is not spoken to costs next to nothing."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(node_receiver(place, stage.folder(place), mode)) for place in places for mode in modes
        ]
        for place in places:
            servers.append(stack.enter_context(storescp(place, stage.folder(place), prompt=prompt, fork=fork)))
            servers.append(stack.enter_context(orthanc(place, stage.folder(place), prompt=prompt)))
        yield servers


def _samples(
    stage: Stage, servers: Sequence[Server], kind: str, count: int, *, associations: int, prompt: bool
) -> list[list[Sample]]:
    """Samples by server; each round sends one new set to every server."""
    maker, folder, parts = ImageMaker(), stage.folder(stage.scratch), list[str]()

    def prepare(repeat: int) -> None:
        shutil.rmtree(folder)
        made = maker.write(kind, _WARM_UP if repeat < 0 else count, folder, parts=associations)
        parts[:] = map(str, made)

    actions = [partial(_sent, server, parts, prompt=prompt) for server in servers]
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
