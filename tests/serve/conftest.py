"""Clients of the app."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dermdistill.inference.predictor import Predictor
from dermdistill.serve.app import make_app
from dermdistill.serve.limits import Limits
from standins import CARD, darkness


@pytest.fixture
def predictor() -> Predictor:
    """On the stand-in: what answers are compared with."""
    return Predictor.from_backend(CARD, darkness)


@pytest.fixture
def open_client() -> Iterator[Callable[..., TestClient]]:
    """Makes clients of apps, whose start and end are run too."""
    with ExitStack() as stack:

        def opened(backend: Any = darkness, limits: Limits | None = None, **options: Any) -> TestClient:
            app = make_app(Predictor.from_backend(CARD, backend), limits, **options)
            client = TestClient(app, base_url="http://127.0.0.1:8000")
            return stack.enter_context(client)

        yield opened


@pytest.fixture
def client(open_client: Callable[..., TestClient]) -> TestClient:
    """With limits that a test can reach."""
    return open_client(limits=Limits(max_upload_bytes=2**20, max_pixels=1_000_000))
