"""Metrics in Prometheus' text form."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from dermdistill._version import __version__

METRICS_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters of one server, in a registry of their own (two servers in one process do not mix)."""

    def __init__(self, model: dict[str, str], registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "dermdistill_requests", "Requests completed.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "dermdistill_request_seconds", "From headers to the last byte of the response.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.waited = Histogram(
            "dermdistill_wait_seconds", "In the queue, before a worker was free.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.computed = Histogram(
            "dermdistill_compute_seconds", "In a worker: decode, network, outline, encode.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "dermdistill_refused", "Requests refused, by problem code.", ["code"], registry=registry
        )
        self.slots = Gauge("dermdistill_slots_taken", "Requests waiting or computed.", registry=registry)
        self.capacity = Gauge("dermdistill_slots", "Slots: workers and queue.", registry=registry)
        self.uploaded = Counter("dermdistill_upload_bytes", "Bytes of bodies received.", registry=registry)
        self.warnings = Counter(
            "dermdistill_warnings", "Warnings given with predictions, by code.", ["code"], registry=registry
        )
        build = Gauge(
            "dermdistill_info", "Version and model; always 1.", ["version", *model], registry=registry
        )
        build.labels(version=__version__, **model).set(1)

    def text(self) -> bytes:
        """All of them, in Prometheus' text form."""
        return generate_latest(self.registry)
