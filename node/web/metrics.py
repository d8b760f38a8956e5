"""Counts in the Prometheus text format. No label ever holds a patient attribute or a UID."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from node.web.overview import Counts


def render_metrics(counts: Counts, free_bytes: int) -> bytes:
    """Return the page for ``/metrics``."""
    registry = CollectorRegistry()
    jobs = Gauge("ainode_jobs", "Jobs by state", ["state"], registry=registry)
    for state, count in counts.jobs.items():
        jobs.labels(state).set(count)
    deliveries = Gauge(
        "ainode_deliveries", "Deliveries by destination and state", ["destination", "state"], registry=registry
    )
    for (destination, state), count in counts.deliveries.items():
        deliveries.labels(destination, state).set(count)
    Gauge("ainode_held_studies", "Studies held for a person", registry=registry).set(counts.held)
    Gauge(
        "ainode_outdated_deliveries", "Results that a destination has under a corrected identity", registry=registry
    ).set(counts.outdated)
    Gauge("ainode_instances", "Instances in the index", registry=registry).set(counts.images)
    Gauge("ainode_oldest_queued_job_seconds", "Age of the oldest queued job", registry=registry).set(
        counts.oldest_job_seconds
    )
    Gauge("ainode_spool_free_bytes", "Free space on the spool's disk", registry=registry).set(free_bytes)
    return generate_latest(registry)
