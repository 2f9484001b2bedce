"""What one server takes: sizes, waiting and time."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dermdistill.core.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. With ``workers + queue`` requests at once, memory is bounded too."""

    max_upload_bytes: int = 32 * 2**20
    """Largest image file. A 24-megapixel JPEG has about 10 MB, a 48-megapixel one 25 MB."""
    max_pixels: int = 50_000_000
    """Largest image in pixels, read in its header before anything is decoded."""
    workers: int = max(1, (os.cpu_count() or 1) // 2)
    """Images computed at the same time."""
    queue: int = 16
    """Requests that may wait beyond those; one more is refused with 429."""
    timeout_s: float = 30.0
    """Waiting and computing, in seconds; then 504."""
    upload_timeout_s: float = 60.0
    """For the whole body to arrive, in seconds; then 408."""

    def __post_init__(self) -> None:
        for name, least in (("max_upload_bytes", 1), ("max_pixels", 1), ("workers", 1), ("queue", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name} is {getattr(self, name)}.", f"{least} or more", "Raise it, or leave it out."
                )
        for name in ("timeout_s", "upload_timeout_s"):
            if not getattr(self, name) > 0:
                raise UsageError(
                    f"{name} is {getattr(self, name)}.", "more than 0 seconds", "Raise it, or leave it out."
                )
