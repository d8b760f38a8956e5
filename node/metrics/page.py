"""The page at ``/metrics``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from importlib import metadata

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from node.archive.engine import Store
from node.errors import StoreError
from node.jobs import queue
from node.metrics.ledger_fold import LedgerFold
from node.metrics.standing import store_figures
from node.metrics.surroundings import surroundings
from node.settings import Settings


class MetricsPage:
    """Everything this node tells Prometheus; one for the life of the process.

    Parameters
    ----------
    settings : Settings
    store : Store
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._registry = CollectorRegistry()
        self._fold = LedgerFold(self._registry)
        self._registry.register(_NodeCollector(settings, store, self._fold))
        # The histograms are filled by what the collector reads, so scrapes follow each other.
        self._guard = threading.Lock()
        self._store = store

    def render(self) -> bytes:
        """The page in the text format of Prometheus."""
        with self._guard:
            try:
                with self._store.read() as connection:
                    self._fold.take(connection)
            except StoreError:
                pass  # ainode_up says so
            return generate_latest(self._registry)


class _NodeCollector(Collector):
    def __init__(self, settings: Settings, store: Store, fold: LedgerFold) -> None:
        self._settings = settings
        self._store = store
        self._fold = fold

    def describe(self) -> list[Metric]:
        """Nothing: names are known when they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        info = GaugeMetricFamily("ainode_info", "The node and its version", labels=["node", "version"])
        info.add_metric([self._settings.node.name, metadata.version("ainode")], 1)
        yield info
        up = GaugeMetricFamily("ainode_up", "1 where the database could be read")
        try:
            with self._store.read() as connection:
                yield from store_figures(connection, time.time())
                yield self._drain(connection)
            up.add_metric([], 1)
        except StoreError:
            up.add_metric([], 0)
        yield up
        yield from surroundings(self._settings)
        yield from self._folded()

    def _drain(self, connection: Connection) -> Metric:
        """How long what is queued will take at the pace of the runs seen; to be held against the site's target."""
        family = GaugeMetricFamily(
            "ainode_queue_drain_seconds", "Time until what is queued now has run, at the present pace"
        )
        mean = self._fold.mean_run_seconds
        if mean is not None:
            waiting = queue.count_by_state(connection).get(queue.JobState.QUEUED, 0)
            family.add_metric([], waiting * mean / self._settings.jobs.dispatchers)
        return family

    def _folded(self) -> Iterator[Metric]:
        fold = self._fold
        for name, words, labels, counted in (
            ("ainode_runs", "Ended runs by rule and outcome", ["rule", "outcome"], fold.runs),
            ("ainode_refusals", "Runs refused or given up, by reason code", ["code"], fold.refusals),
            ("ainode_rejections", "Associations and TLS handshakes refused, by reason", ["reason"], fold.rejections),
            ("ainode_model_runs", "Runs by model and execution provider", ["model", "provider"], fold.providers),
            ("ainode_events", "Ledger rows by kind", ["kind"], fold.events),
        ):
            family = CounterMetricFamily(name, words, labels=labels)
            for key, count in counted.items():
                family.add_metric([key] if isinstance(key, str) else list(key), count)
            yield family
