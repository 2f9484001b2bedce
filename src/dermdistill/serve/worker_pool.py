"""A few workers behind a bounded queue.

Work on pixels runs in processes of its own (`worker_process`), each with a thread here that waits for it, so
that the event loop stays free. A request takes a slot once its body has arrived: whoever sends slowly takes
none.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from dermdistill.inference.predictor import Predictor
from dermdistill.serve.json_logs import LOGGER
from dermdistill.serve.limits import Limits
from dermdistill.serve.observability import Metrics
from dermdistill.serve.problems import ClientGone, Refusal
from dermdistill.serve.worker_process import Job, Worker, make_worker, out_of_time

T = TypeVar("T")

_END = 1.0  # seconds for a thread to see that its process has been ended
_POLL = 0.25  # seconds between checks whether the client is still there
_MEMORY = 0.2  # weight of the newest job in the running mean of their times


class WorkerPool:
    """Run jobs in ``limits.workers`` workers, with at most ``limits.queue`` requests waiting.

    A job keeps its slot until it ends, so that the bound holds: in a process that is after
    ``limits.timeout_s`` of computing at the latest; in a thread, where PyTorch runs, it cannot be stopped.
    """

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._workers = [make_worker(predictor, limits.timeout_s) for _ in range(limits.workers)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._executor = ThreadPoolExecutor(limits.workers, thread_name_prefix="segment")
        self._lock = threading.Lock()
        self._taken = 0
        self._seconds = 1.0

    def wait_until_ready(self) -> None:
        """Return once every worker has segmented a first image.

        Raises:
            Exception: What the network raised.
        """
        for worker in self._workers:
            worker.wait_until_ready()

    @property
    def taken(self) -> int:
        """Slots in use: requests waiting or computed."""
        return self._taken

    def slot(self) -> Slot:
        """Take a slot, to be used in a ``with`` block.

        Raises:
            Refusal: 429, none is free.
        """
        with self._lock:
            self._refuse_if_full()
            self._taken += 1
            self.metrics.slots.set(self._taken)
        return Slot(self)

    def refuse_if_full(self) -> None:
        """Refuse a request whose body need not be sent, as there is no slot for it.

        Raises:
            Refusal: 429.
        """
        with self._lock:
            self._refuse_if_full()

    def _refuse_if_full(self) -> None:
        if self._taken >= self.limits.slots:
            raise busy(f"{self._taken} requests are being worked on or wait already.", self._wait())

    @property
    def computing(self) -> int:
        """Jobs that run now."""
        return self.limits.workers - self._idle.qsize()

    def close(self) -> None:
        """End the workers, and the jobs that still run in processes; those in threads go on (`computing`)."""
        if unfinished := self.computing:
            logging.getLogger(LOGGER).warning("jobs are ended", extra={"fields": {"jobs": unfinished}})
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        end = time.monotonic() + _END
        while self.computing and time.monotonic() < end:
            time.sleep(0.01)

    def release(self) -> None:
        """Give one slot back (from any thread)."""
        with self._lock:
            self._taken -= 1
            self.metrics.slots.set(self._taken)

    def submit(self, job: Job[T]) -> Future[T]:
        """Queue a job for the workers; how long it waits and takes is measured."""
        asked = time.perf_counter()

        def timed() -> T:
            began = time.perf_counter()
            self.metrics.waited.observe(began - asked)
            worker = self._idle.get()  # there is one: as many threads as workers
            try:
                return worker.run(job)
            finally:
                self._idle.put(worker)
                took = time.perf_counter() - began
                self.metrics.computed.observe(took)
                with self._lock:
                    self._seconds += _MEMORY * (took - self._seconds)

        return self._executor.submit(timed)

    def _wait(self) -> int:
        return min(60, max(1, math.ceil(self._seconds * self._taken / self.limits.workers)))


def busy(detail: str, retry_after_s: int) -> Refusal:
    """The refusal of a request that there is no room for now."""
    return Refusal(
        429,
        "busy",
        detail,
        fix="Try again after the seconds in Retry-After.",
        headers={"Retry-After": str(retry_after_s)},
    )


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

    async def run(self, job: Job[T], gone: Callable[[], Awaitable[bool]]) -> T:
        """Run a job in a worker, and return what it returns.

        Args:
            job: Runs in a worker.
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
        raise out_of_time(limit)


def _discard_error(future: asyncio.Future[Any]) -> None:
    """Retrieve a late job's error, which nobody waits for: asyncio would print a warning of its own."""
    if not future.cancelled():
        future.exception()
