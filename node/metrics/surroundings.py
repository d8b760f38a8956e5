"""Figures that are not in the database: processes, disk, certificates, breakers, models."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from node.delivery.gate_states import published
from node.expected import expected_processes
from node.monitor.alarms import standing_alarms
from node.monitor.certificates import DAY_SECONDS, own_dates, shown_dates
from node.monitor.forecast import days_to_reserve, history
from node.monitor.processes import FRESH_SECONDS
from node.pulse import Beat, beats
from node.settings import Settings


def surroundings(settings: Settings) -> Iterator[Metric]:
    """Everything that processes and the operating system tell."""
    living = beats(settings.data_dir)
    yield from _processes(settings, living)
    yield from _disk(settings)
    yield _certificates(settings, living)
    yield _breakers(settings)
    yield from _models(living)
    family = GaugeMetricFamily("ainode_alarm", "Alarms that stand, see docs/alerts.md", labels=["alarm", "subject"])
    for each in standing_alarms(settings.data_dir):
        family.add_metric([str(each.alarm), each.subject], 1)
    yield family


def _processes(settings: Settings, living: Sequence[Beat]) -> Iterator[Metric]:
    wanted = Counter(each.process for each in expected_processes(settings))
    fresh = Counter(beat.process for beat in living if beat.age_seconds < FRESH_SECONDS)
    expected = GaugeMetricFamily(
        "ainode_processes_expected", "Processes the configuration asks for", labels=["process"]
    )
    alive = GaugeMetricFamily("ainode_processes_alive", "Processes whose main loop turns", labels=["process"])
    for process, count in wanted.items():
        expected.add_metric([process], count)
        alive.add_metric([process], fresh[process])
    yield expected
    yield alive
    oldest = GaugeMetricFamily("ainode_heartbeat_age_seconds", "Since the last sign of life", labels=["process"])
    ages: dict[str, float] = {}
    for beat in living:
        ages[beat.process] = max(ages.get(beat.process, 0.0), beat.age_seconds)
    for process, seconds in ages.items():
        oldest.add_metric([process], seconds)
    yield oldest


def _disk(settings: Settings) -> Iterator[Metric]:
    reserve = settings.receive.disk_reserve_bytes
    usage = shutil.disk_usage(settings.data_dir)
    for name, words, value in (
        ("ainode_spool_free_bytes", "Free space on the spool's disk", usage.free),
        ("ainode_spool_size_bytes", "Size of the spool's disk", usage.total),
        ("ainode_spool_reserve_bytes", "Free space below which senders get A700", reserve),
    ):
        family = GaugeMetricFamily(name, words)
        family.add_metric([], value)
        yield family
    days = GaugeMetricFamily("ainode_spool_days_to_full", "Days until the reserve is reached, at the pace of two weeks")
    if (forecast := days_to_reserve(history(settings.data_dir), reserve)) is not None:
        days.add_metric([], forecast)
    yield days


def _certificates(settings: Settings, living: Sequence[Beat]) -> Metric:
    """The node's own are read now; peers' are looked at by the monitor, which tells them with its pulse."""
    family = GaugeMetricFamily("ainode_certificate_days", "Days until a certificate expires", labels=["certificate"])
    known = {each.name: each.expires_at for each in [*own_dates(settings), *shown_dates(settings)]}
    for beat in living:
        if beat.process == "monitor":
            known = {**beat.facts.get("certificates", {}), **known}
    for name, expires_at in known.items():
        # What cannot be read is as good as expired.
        family.add_metric([name], -1.0 if expires_at is None else (expires_at - time.time()) / DAY_SECONDS)
    return family


def _breakers(settings: Settings) -> Metric:
    family = GaugeMetricFamily(
        "ainode_breaker_open", "1 where a destination is left alone after repeated failures", labels=["destination"]
    )
    for name, gate in published(settings.data_dir).items():
        family.add_metric([name], int(gate.state == "open"))
    return family


def _models(living: Sequence[Beat]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "ainode_model_self_test",
        "1 where a model gave its known answer when it was loaded, 0 where not",
        labels=["model"],
    )
    fallback = GaugeMetricFamily(
        "ainode_model_fell_back", "1 where a model runs on the CPU because the GPU gave wrong answers", labels=["model"]
    )
    short = GaugeMetricFamily(
        "ainode_model_no_room",
        "1 where a model runs on the CPU because the GPU had too little memory",
        labels=["model"],
    )
    passed: dict[str, bool] = {}
    fell: dict[str, bool] = {}
    no_room: dict[str, bool] = {}
    for beat in living:
        for name, facts in beat.facts.get("models", {}).items():
            passed[name] = passed.get(name, True) and bool(facts.get("passed"))
            fell[name] = fell.get(name, False) or bool(facts.get("fell_back"))
            no_room[name] = no_room.get(name, False) or bool(facts.get("no_room"))
    for name, value in passed.items():
        state.add_metric([name], int(value))
        fallback.add_metric([name], int(fell[name]))
        short.add_metric([name], int(no_room[name]))
    yield state
    yield fallback
    yield short
