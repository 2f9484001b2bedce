"""The bounded queue, its time limits, and what becomes of late or abandoned work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from dermdistill.core.errors import UsageError
from dermdistill.inference.predictor import Predictor
from dermdistill.serve.app import make_app
from dermdistill.serve.limits import Limits
from dermdistill.serve.observability import Metrics
from dermdistill.serve.problems import ClientGone, Refusal
from dermdistill.serve.worker_pool import WorkerPool
from standins import CARD, darkness, encoded, picture

PNG = {"Content-Type": "image/png"}


class Gate:
    """A backend that answers when it is let."""

    def __init__(self) -> None:
        self.let, self.begun = threading.Event(), threading.Semaphore(0)
        self.let.set()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.begun.release()
        assert self.let.wait(20)
        return darkness(batch)

    @contextmanager
    def shut(self) -> Iterator[None]:
        self.let.clear()
        self.begun = threading.Semaphore(0)
        try:
            yield
        finally:
            self.let.set()


def ask(client: TestClient, **query: Any) -> Any:
    return client.post("/v1/segment", content=encoded(picture()), headers=PNG, params=query)


def test_one_more_than_the_queue_holds_is_told_when_to_come_back(
    open_client: Callable[..., TestClient],
) -> None:
    gate = Gate()
    client = open_client(gate, Limits(workers=1, queue=2))
    with ThreadPoolExecutor(3) as threads:
        with gate.shut():
            waiting = [threads.submit(ask, client) for _ in range(3)]
            gate.begun.acquire()
            while client.get("/healthz").json()["slots_taken"] < 3:
                time.sleep(0.01)
            refused = ask(client)
            assert (refused.status_code, refused.json()["code"]) == (429, "busy")
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert [each.result().status_code for each in waiting] == [200, 200, 200]
    assert ask(client).status_code == 200
    assert client.get("/healthz").json()["slots_taken"] == 0


def test_an_answer_that_takes_too_long_is_504_and_keeps_its_slot_until_it_ends(
    open_client: Callable[..., TestClient],
) -> None:
    gate = Gate()
    client = open_client(gate, Limits(workers=1, queue=0, timeout_s=0.2))
    with gate.shut():
        late = ask(client)
        assert (late.status_code, late.json()["code"]) == (504, "timeout")
        assert ask(client).status_code == 429  # its thread still works
    end = time.monotonic() + 10
    while client.get("/healthz").json()["slots_taken"] and time.monotonic() < end:
        time.sleep(0.01)
    assert ask(client).status_code == 200


def test_a_job_that_still_waits_when_its_time_is_over_is_never_run(
    open_client: Callable[..., TestClient],
) -> None:
    gate = Gate()
    client = open_client(gate, Limits(workers=1, queue=1, timeout_s=0.3))
    with gate.shut(), ThreadPoolExecutor(2) as threads:
        statuses = [each.result().status_code for each in [threads.submit(ask, client) for _ in range(2)]]
        assert statuses == [504, 504]
        assert gate.begun.acquire(blocking=False)
        assert not gate.begun.acquire(blocking=False)
    assert not gate.begun.acquire(timeout=0.3)


def test_a_body_that_does_not_come_is_408() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield encoded(picture())[:20]
        await asyncio.sleep(5)

    async def post() -> httpx2.Response:
        app = make_app(Predictor.from_backend(CARD, darkness), Limits(workers=1, upload_timeout_s=0.2))
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/segment", content=trickle(), headers=PNG)

    response = asyncio.run(post())
    assert (response.status_code, response.json()["code"]) == (408, "upload_timeout")


def pool(**limits: Any) -> WorkerPool:
    predictor = Predictor.from_backend(CARD, darkness)
    return WorkerPool(predictor, Limits(**limits), Metrics({"recipe": "r"}))


def test_a_client_that_has_gone_frees_its_place_in_the_queue() -> None:
    async def gone() -> bool:
        return True

    async def here() -> bool:
        return False

    async def scenario() -> None:
        workers, let, ran = pool(workers=1, queue=1), threading.Event(), []
        with workers.slot() as first:
            computing = asyncio.create_task(first.run(lambda _: let.wait(10), here))
            await asyncio.sleep(0)
            with pytest.raises(ClientGone), workers.slot() as second:
                await second.run(lambda _: ran.append(1), gone)
            assert workers.taken == 1
            let.set()
            assert await computing
        assert workers.taken == 0
        assert ran == []
        workers.close()

    asyncio.run(scenario())


def test_faults_reach_the_caller_and_free_the_slot() -> None:
    async def here() -> bool:
        return False

    def fails(predictor: Predictor) -> None:
        raise ValueError("bad pixels")

    async def scenario() -> None:
        workers = pool(workers=1, queue=0)
        for _ in range(3):
            with pytest.raises(ValueError, match="bad pixels"), workers.slot() as slot:
                await slot.run(fails, here)
        with pytest.raises(RuntimeError, match="before the job"), workers.slot():
            raise RuntimeError("before the job")
        assert workers.taken == 0
        with workers.slot(), pytest.raises(Refusal):
            workers.slot()
        workers.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"queue": -1}, {"timeout_s": 0.0}, {"max_pixels": 0}, {"idle_timeout_s": 0}]
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Limits(**wrong)
