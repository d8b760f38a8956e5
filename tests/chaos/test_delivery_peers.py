"""Every destination gets everything once, whatever its temper, and never disturbs another. Tables of docs/delivery.md."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from node.archive import tables
from node.delivery.sender import Sender
from node.dicom.pacs import TestPacs
from node.dicom.verify_peer import RESULT_CLASSES
from tests.chaos import destinations
from tests.chaos.destinations import Clock, Start, Target, storescp, tempered
from tests.chaos.durability_page import Findings
from tests.network import LABEL_MAP_SEG, Node, file_delivery, instance, running_node, uid, wait_for
from tests.peers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.peer]

OBJECTS = 12
SEG = RESULT_CLASSES[0]
COLUMNS = (
    "destination",
    "objects",
    "kept there",
    "twice",
    "with other bytes",
    "states in the end",
    "most attempts",
    "neighbour",
)
HOUR = 3600.0

UNVERIFIABLE, QUERY, COMMITTED = "stored, unverifiable", "stored, query", "committed, commitment"
SCENES: list[tuple[str, Start, str]] = [
    ("DCMTK storescp, TCP_NODELAY", storescp(), UNVERIFIABLE),
    ("DCMTK storescp as it comes (Nagle)", storescp(no_delay=False), UNVERIFIABLE),
    ("DCMTK storescp, implicit VR only", storescp("+xi"), UNVERIFIABLE),
    ("DCMTK dcmqrscp", destinations.dcmqrscp, QUERY),
    ("Orthanc", destinations.orthanc, COMMITTED),
    ("`ainode pacs`", destinations.ainode_pacs, COMMITTED),
    ("answers A700, then has room", tempered(destinations.Full), COMMITTED),
    ("aborts in the middle of every fourth object", tempered(destinations.AbortsAfterThree), COMMITTED),
    ("stores, and loses every fourth answer", tempered(destinations.LosesAnswers), COMMITTED),
    (
        "never answers commitment",
        tempered(destinations.Mute, commitment_timeout_seconds=0.5, commitment_attempts=1),
        QUERY,
    ),
    ("answers commitment on an association of its own", tempered(TestPacs, elsewhere=True), COMMITTED),
    ("down for an hour (the scheduler's clock is set)", destinations.down_for_an_hour, COMMITTED),
]


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestPacs, int]]:
    pacs = TestPacs(tmp_path_factory.mktemp("neighbour"))
    with pacs.running() as (_, port):
        yield pacs, port


@contextmanager
def sending(node: Node, clock: Clock) -> Iterator[Sender]:
    sender, stop = Sender(node.settings, node.store, clock=clock), threading.Event()
    thread = threading.Thread(target=sender.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield sender
    finally:
        stop.set()
        sender.wake()
        thread.join(20)


@contextmanager
def scene(tmp_path: Path, start: Start, port: int) -> Iterator[tuple[Node, Target, Sender, Clock]]:
    """A node with the destination of a scene and a healthy neighbour."""
    node_port, clock = free_port(), Clock()
    with start(tmp_path / "peer", node_port) as target:
        common = {"host": "127.0.0.1", "retry_seconds": 0.3, "retry_ceiling_seconds": 2.0}
        scene_settings = {**common, "ae_title": target.ae_title, "port": target.port, **target.settings}
        neighbours = {**common, "ae_title": "TESTPACS", "port": port}
        named = {"scene": scene_settings, "neighbour": neighbours}
        quick = {"breaker_seconds": 1.0}
        with (
            running_node(tmp_path, receive={"port": node_port}, destination=named, delivery=quick) as node,
            sending(node, clock) as sender,
        ):
            yield node, target, sender, clock


def states(node: Node, name: str) -> Counter[str]:
    rows = node.rows(tables.deliveries, tables.deliveries.c.destination == name)
    return Counter(f"{row.state}{f', {row.proof}' if row.proof else ''}" for row in rows)


def _files(tmp_path: Path, title: str) -> list[Path]:
    return [instance(tmp_path / "in", number, study=title, sop_class=SEG) for number in range(OBJECTS)]


@pytest.mark.parametrize(("title", "start", "expected"), SCENES, ids=[title for title, _, _ in SCENES])
def test_every_temper(
    tmp_path: Path,
    neighbour: tuple[TestPacs, int],
    delivery_findings: Findings,
    title: str,
    start: Start,
    expected: str,
) -> None:
    with scene(tmp_path, start, neighbour[1]) as (node, target, sender, clock):
        files = _files(tmp_path, title)
        began = time.monotonic()
        file_delivery(node.store, node.settings, files, ["scene", "neighbour"], now=time.time(), job=title)
        sender.wake()
        wait_for(lambda: states(node, "neighbour")[COMMITTED] == OBJECTS, "the neighbour", seconds=30)
        undisturbed = time.monotonic() - began
        if (come_up := getattr(target, "come_up", None)) is not None:
            _an_hour_passes(node, sender, clock, come_up)
        wait_for(lambda: states(node, "scene")[expected] == OBJECTS, f"all at {title}", seconds=60)
        kept = Counter(target.kept())
        with node.store.read() as connection:
            of_scene = tables.deliveries.c.destination == "scene"
            attempts = connection.execute(select(func.max(tables.deliveries.c.attempts)).where(of_scene)).scalar_one()
        delivery_findings.add(
            "1. Destinations",
            COLUMNS,
            title,
            OBJECTS,
            len(kept),
            sum(count - 1 for count in kept.values()),
            target.conflicts(),
            f"{OBJECTS} {expected}",
            attempts,
            f"all proven after {undisturbed:.1f} s",
        )
        assert kept == Counter(uid(title, "instance", number) for number in range(OBJECTS))
        assert target.conflicts() == 0


def _an_hour_passes(node: Node, sender: Sender, clock: Clock, come_up: Any) -> None:
    """Half an hour without it, in steps of a minute; then it is back, and half an hour more."""
    for _ in range(30):
        clock.ahead += HOUR / 60
        sender.wake()
        time.sleep(0.02)
    assert states(node, "scene")["dead"] == 0
    come_up()
    time.sleep(0.5)
    clock.ahead += HOUR / 2
    sender.wake()


def test_a_refused_class_stops_nothing_else(
    tmp_path: Path, neighbour: tuple[TestPacs, int], delivery_findings: Findings
) -> None:
    title = "refuses Label Map Segmentation (storescp)"
    with scene(tmp_path, storescp(), neighbour[1]) as (node, target, sender, _):
        files = _files(tmp_path, title)
        refused = instance(tmp_path / "in", "label-map", study=title, sop_class=LABEL_MAP_SEG)
        began = time.monotonic()
        file_delivery(node.store, node.settings, [*files, refused], ["scene", "neighbour"], now=time.time(), job=title)
        sender.wake()
        wait_for(lambda: states(node, "neighbour")[COMMITTED] == OBJECTS + 1, "the neighbour", seconds=30)
        undisturbed = time.monotonic() - began
        wait_for(lambda: states(node, "scene") == {UNVERIFIABLE: OBJECTS, "dead": 1}, "everything settled", seconds=30)
        kept = Counter(target.kept())
        delivery_findings.add(
            "1. Destinations",
            COLUMNS,
            title,
            OBJECTS + 1,
            len(kept),
            sum(count - 1 for count in kept.values()),
            0,
            f"{OBJECTS} {UNVERIFIABLE}; 1 dead: no context",
            1,
            f"all proven after {undisturbed:.1f} s",
        )
        assert len(kept) == OBJECTS
        # Another destination setting, and the operator sends it again.
        with node.store.write() as connection:
            dead = tables.deliveries.c.state == "dead"
            message = connection.execute(select(tables.deliveries.c.message).where(dead)).scalar_one()
            connection.execute(update(tables.deliveries).where(dead).values(state="withdrawn"))
        assert "PEER-004" in message
