"""Rows `receive.*` of single operations: a client of plain sockets towards our receiver and storescp."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.bench.figures import Row, Target, percentile_95, row
from tests.bench.images import ImageMaker
from tests.bench.raw_client import RawAssociation
from tests.bench.receiving import MODES, beside, servers
from tests.bench.servers import NODE, STORESCP, Server
from tests.bench.stage import Place, Stage, alternate

_ACCEPTS = 5
_FILE_BYTES = 33_000
_BARE = "one file made, written and synced"


def single_operations(stage: Stage) -> list[Row]:
    """Latency of a C-STORE of 33 kB, of C-ECHO and of association set-up; and of a bare fsync on the same disk."""
    files: list[Path] = []
    maker = ImageMaker()

    def prepare(repeat: int) -> None:
        files[:] = sorted(maker.write("mr", stage.size.latencies, stage.folder(stage.scratch))[0].iterdir())

    with servers(stage, stage.places, MODES) as running:
        actions: list[Callable[[], dict[str, list[float]]]] = [partial(_operations, each, files) for each in running]
        actions += [partial(_bare_syncs, stage, place) for place in stage.places]
        taken = alternate(stage.size.repeats, actions, prepare=prepare)
    pooled = [{key: [ms for each in samples for ms in each[key]] for key in samples[0]} for samples in taken]
    bare = dict(zip([place.filesystem for place in stage.places], pooled[len(running) :], strict=True))
    rows = []
    for index, server in enumerate(running):
        if server.name == NODE:
            theirs = pooled[beside(server, running, STORESCP)]
            rows += _rows_of_store(server, pooled[index]["store"], theirs["store"], bare[server.place.filesystem])
            if index == 0:
                # Echo and set-up touch no file: one variant says it all.
                rows += _rows_without_file(pooled[index], theirs)
    return rows


def _rows_of_store(
    server: Server, ours: Sequence[float], theirs: Sequence[float], bare: dict[str, list[float]]
) -> list[Row]:
    make = partial(row, unit="ms", filesystem=server.place.filesystem, mode=server.mode)
    how = f"33 kB MR, {len(ours)} samples, raw socket client"
    later = server.mode == "association"
    median, others = statistics.median(ours), statistics.median(theirs)
    half, twice = (Target("figure", 0.5), Target("ratio", 2.0)) if later else (None, None)
    p95 = [percentile_95(ours)], [percentile_95(theirs)]
    rows = [
        make("receive.cstore_latency.median", [median], peer=STORESCP, peers=[others], target=half, how=how),
        make("receive.cstore_latency.p95", p95[0], peer=STORESCP, peers=p95[1], target=twice, how=how),
    ]
    if not later:
        synced = [statistics.median(bare["sync"])]
        rows.append(
            make(
                "receive.cstore_durable.median",
                [median],
                peer=_BARE,
                peers=synced,
                # Where syncing costs nothing there is nothing to compare with.
                target=Target("ratio", 3.0) if server.place.filesystem != "tmpfs" else None,
                how=f"{how}; file, folder and index row are synced before the answer",
            )
        )
    return rows


def _rows_without_file(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> list[Row]:
    return [
        row(
            f"receive.{name}",
            [statistics.median(ours[key])],
            "ms",
            peer=STORESCP,
            peers=[statistics.median(theirs[key])],
            target=Target("figure", limit),
            how=f"{what}, {len(ours[key])} samples, raw socket client",
        )
        for name, key, limit, what in (
            ("echo", "echo", 1.0, "C-ECHO, median"),
            ("association_accept", "accept", 5.0, "from connect to A-ASSOCIATE-AC, median"),
        )
    ]


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


def _bare_syncs(stage: Stage, place: Place) -> dict[str, list[float]]:
    """Milliseconds of the least that anybody must do who keeps a file: make it, write it, sync it."""
    folder, content, taken = stage.folder(place), os.urandom(_FILE_BYTES), []
    for number in range(stage.size.latencies):
        started = time.perf_counter()
        handle = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(handle, content)
        os.fsync(handle)
        taken.append((time.perf_counter() - started) * 1000)
        os.close(handle)
    return {"sync": taken}
