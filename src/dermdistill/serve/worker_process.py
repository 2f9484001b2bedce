"""What runs a job: a process that can be ended in the middle of one, or the thread that asks."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, TypeVar

import numpy as np

from dermdistill.core.errors import DermDistillError
from dermdistill.inference.onnx_backend import OnnxBackend
from dermdistill.inference.predictor import Predictor
from dermdistill.serve.json_logs import LOGGER, set_up_logging
from dermdistill.serve.problems import Refusal

T = TypeVar("T")
Job = Callable[[Predictor], T]
"""What is to be done with the predictor; for a process it is pickled."""

_START_S = 120.0  # for a process to import its modules and open the network, on a busy machine


class Worker(Protocol):
    """Runs one job at a time."""

    def wait_until_ready(self) -> None:
        """Return once the network has segmented a first image; raise where it cannot."""
        ...

    def run(self, job: Job[T]) -> T:
        """Return what the job returns, or raise what it raises."""
        ...

    def close(self) -> None:
        """End, from any thread; a job that is running is lost where it can be ended."""
        ...


def make_worker(predictor: Predictor, timeout_s: float) -> Worker:
    """Make the worker that suits a predictor: a process for an ONNX file, else the thread that asks.

    Args:
        predictor: A process opens the file anew; a thread uses it as it is.
        timeout_s: A process that computes for longer is ended.
    """
    if isinstance(predictor.backend, OnnxBackend):
        return WorkerProcess(predictor, timeout_s)
    return WorkerThread(predictor)


class WorkerThread:
    """Runs jobs in the thread that asks: for PyTorch, which takes seconds to begin in a process."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def wait_until_ready(self) -> None:
        """Segment a first image."""
        _try_out(self._predictor)

    def run(self, job: Job[T]) -> T:
        """Run a job here."""
        return job(self._predictor)

    def close(self) -> None:
        """Do nothing: a thread cannot be ended."""


class WorkerProcess:
    """Runs jobs in a process of its own, which is ended and begun anew where a job takes too long.

    A file that takes a decoder minutes, or its whole memory, costs one process and nothing else. Processes
    also use several cores where threads would wait for each other at the interpreter's lock.

    Args:
        predictor: On an ONNX file, which the process opens.
        timeout_s: Of one job, in seconds.
    """

    def __init__(self, predictor: Predictor, timeout_s: float) -> None:
        self._predictor, self._timeout_s = predictor, timeout_s
        self._lock = threading.Lock()
        self._closed = False
        self._ready = False
        self._process: BaseProcess | None = None

    def _begin(self) -> None:
        # Not forked: this process has threads. Not by a server of forks: its socket needs a folder to write.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True, name="segment")
        process.start()
        theirs.close()  # so that its end is seen
        self._connection.send(self._predictor)
        self._process, self._ready = process, False

    def wait_until_ready(self) -> None:
        """Begin the process where there is none yet, and wait until it has segmented a first image.

        Raises:
            WorkerFaultError: The network failed.
            OSError: The process ended, or needs minutes.
        """
        with self._lock:
            if self._process is None and not self._closed:
                self._begin()
        if not self._ready:
            self._receive(_START_S)
            self._ready = True

    def run(self, job: Job[T]) -> T:
        """Run a job in the process.

        Raises:
            Refusal: 504, it took too long, and the process was ended; or what the job refuses.
            DermDistillError: The process ended by itself.
        """
        try:
            self.wait_until_ready()
            self._connection.send(job)
            result: T = self._receive(self._timeout_s)
            return result
        except (TimeoutError, OSError, EOFError) as error:
            code = self._begin_anew()
            if isinstance(error, TimeoutError):
                logging.getLogger(LOGGER).warning("worker ended: its job took too long")
                raise out_of_time(self._timeout_s) from None
            raise DermDistillError(
                f"A worker process ended in the middle of a job (exit code {code}).",
                "a process that lives",
                "Where memory is short: fewer --workers, or less --max-megapixels.",
            ) from None

    def _receive(self, timeout_s: float) -> Any:
        if not self._connection.poll(timeout_s):
            raise TimeoutError
        error, result = self._connection.recv()
        if error is not None:
            raise error
        return result

    def _begin_anew(self) -> int | None:
        with self._lock:
            code = self._end()
            if not self._closed:
                self._begin()
            return code

    def _end(self) -> int | None:
        if self._process is None:
            return None
        self._process.join(0.1)  # where it has ended by itself, its exit code says why
        self._process.kill()
        self._process.join()
        return self._process.exitcode

    def close(self) -> None:
        """End the process, whatever it does; `run`, where it waits, raises."""
        with self._lock:
            self._closed = True
            self._end()


def _work(connection: Connection) -> None:
    """The process: it receives a predictor, then one job after another, until the other end is closed."""
    for each in (signal.SIGINT, signal.SIGTERM):  # both may be sent to all processes of the service
        signal.signal(each, signal.SIG_IGN)
    set_up_logging()
    error, predictor = _outcome(lambda: _opened(connection))
    with contextlib.suppress(EOFError, OSError):  # the server has ended
        connection.send((error, None))
        while error is None:
            job = connection.recv()
            connection.send(_outcome(functools.partial(job, predictor)))


def _opened(connection: Connection) -> Predictor:
    predictor: Predictor = connection.recv()
    _try_out(predictor)
    return predictor


def _outcome(work: Callable[[], Any]) -> tuple[Exception | None, Any]:
    """What work raises, in a form that can be sent, or what it returns."""
    try:
        return None, work()
    except (Refusal, DermDistillError) as error:
        return error, None
    except Exception:
        return WorkerFaultError(traceback.format_exc()), None


class WorkerFaultError(RuntimeError):
    """A fault inside a worker process; its text is the traceback there."""


def _try_out(predictor: Predictor) -> None:
    predictor(np.zeros((64, 64, 3), np.uint8))


def out_of_time(limit_s: float) -> Refusal:
    """The refusal of a request that took too long."""
    return Refusal(
        504,
        "timeout",
        f"The response was not ready after {limit_s:g} seconds.",
        fix="Send a smaller image, or try again when the server is less busy.",
    )
