"""A few worker threads behind a bounded queue.

Work on pixels runs in threads (numpy, Pillow and ONNX Runtime release the interpreter's lock), so that the
event loop stays free. A request takes a slot before its body is read: the number of slots bounds memory.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from dermdistill.serve.limits import Limits
from dermdistill.serve.observability import Metrics
from dermdistill.serve.problems import ClientGone, Refusal

T = TypeVar("T")

_POLL = 0.25  # seconds between checks whether the client is still there
_MEMORY = 0.2  # weight of the newest job in the running mean of their times


class WorkerPool:
    """Run jobs in ``limits.workers`` threads, with at most ``limits.queue`` requests waiting.

    A job that ran out of time cannot be stopped inside its thread: it keeps its slot until it ends, so that
    the bound holds.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._executor = ThreadPoolExecutor(limits.workers, thread_name_prefix="segment")
        self._lock = threading.Lock()
        self._taken = 0
        self._seconds = 1.0

    @property
    def taken(self) -> int:
        """Slots in use: requests being received, waiting or computed."""
        return self._taken

    def slot(self) -> Slot:
        """Take a slot, to be used in a ``with`` block.

        Raises:
            Refusal: 429, none is free.
        """
        with self._lock:
            if self._taken >= self.limits.workers + self.limits.queue:
                raise Refusal(
                    429,
                    "busy",
                    f"{self._taken} requests are being worked on or wait already.",
                    fix="Try again after the seconds in Retry-After.",
                    headers={"Retry-After": str(self._wait())},
                )
            self._taken += 1
            self.metrics.slots.set(self._taken)
        return Slot(self)

    def close(self) -> None:
        """End the threads; what is being computed is finished first."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def release(self) -> None:
        """Give one slot back (from any thread)."""
        with self._lock:
            self._taken -= 1
            self.metrics.slots.set(self._taken)

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job for the worker threads; how long it waits and takes is measured."""
        asked = time.perf_counter()

        def timed() -> T:
            began = time.perf_counter()
            self.metrics.waited.observe(began - asked)
            try:
                return job()
            finally:
                took = time.perf_counter() - began
                self.metrics.computed.observe(took)
                with self._lock:
                    self._seconds += _MEMORY * (took - self._seconds)

        return self._executor.submit(timed)

    def _wait(self) -> int:
        return min(60, max(1, math.ceil(self._seconds * self._taken / self.limits.workers)))


class Slot:
    """One request's slot, given back when both the request and its job are over."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._future: Future[Any] | None = None

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._future is None:
            self._pool.release()
        else:  # at once where it is done already
            self._future.add_done_callback(lambda _: self._pool.release())

    async def run(self, job: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """Run a job in a worker thread, and return what it returns.

        Args:
            job: Runs in a worker thread.
            gone: Whether the client has closed its connection; a job that still waits is then dropped.

        Raises:
            Refusal: 504, it took longer than ``limits.timeout_s``.
            ClientGone: The client has closed its connection.
        """
        limit = self._pool.limits.timeout_s
        end = time.monotonic() + limit
        self._future = future = self._pool.submit(job)
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(_discard_error)
        while (left := end - time.monotonic()) > 0:
            await asyncio.wait({waiting}, timeout=min(left, _POLL))
            if waiting.done():
                return waiting.result()
            if await gone():
                future.cancel()
                raise ClientGone
        future.cancel()
        raise Refusal(
            504,
            "timeout",
            f"The response was not ready after {limit:g} seconds.",
            fix="Send a smaller image, or try again when the server is less busy.",
        )


def _discard_error(future: asyncio.Future[Any]) -> None:
    """Retrieve a late job's error, which nobody waits for: asyncio would print a warning of its own."""
    if not future.cancelled():
        future.exception()
