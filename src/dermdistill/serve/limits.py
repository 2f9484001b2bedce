"""What one server takes: sizes, waiting and time."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dermdistill.core.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. Memory is bounded by ``workers + queue`` requests of the largest size."""

    max_upload_bytes: int = 32 * 2**20
    """Largest image file. A 24-megapixel JPEG has about 10 MB, a 48-megapixel one 25 MB."""
    max_pixels: int = 50_000_000
    """Largest image in pixels, read in its header before anything is decoded."""
    workers: int = os.cpu_count() or 1
    """Images computed at the same time."""
    queue: int = 16
    """Requests that may wait beyond those; one more is refused with 429."""
    timeout_s: float = 30.0
    """Waiting and computing, in seconds; then 504. A job that computes for longer is ended."""
    header_timeout_s: float = 10.0
    """For a request's headers to arrive, in seconds; then the connection is closed."""
    idle_timeout_s: float = 10.0
    """Between two pieces of a body, in seconds; then 408."""
    upload_timeout_s: float = 60.0
    """For the whole body to arrive, in seconds; then 408."""
    response_timeout_s: float = 120.0
    """For a response to be fetched, in seconds; then the connection is closed."""
    grace_s: int = 30
    """For requests that have begun when the server is told to end, in seconds."""
    max_connections: int = 200
    """Open connections. One more closes the one that has waited longest for the rest of a request."""

    def __post_init__(self) -> None:
        for name, least in (
            ("max_upload_bytes", 1), ("max_pixels", 1), ("workers", 1), ("queue", 0),
            ("grace_s", 0), ("max_connections", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name} is {getattr(self, name)}.", f"{least} or more", "Raise it, or leave it out."
                )
        for name in (
            "timeout_s", "header_timeout_s", "idle_timeout_s", "upload_timeout_s", "response_timeout_s",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise UsageError(
                    f"{name} is {getattr(self, name)}.", "more than 0 seconds", "Raise it, or leave it out."
                )

    @property
    def slots(self) -> int:
        """Requests that may wait or be computed at once."""
        return self.workers + self.queue
