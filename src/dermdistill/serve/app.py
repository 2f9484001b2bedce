"""Put the parts together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from dermdistill._version import __version__
from dermdistill.inference.predictor import Predictor
from dermdistill.serve.api import make_router, schemas
from dermdistill.serve.json_logs import LOGGER, request_id
from dermdistill.serve.limits import Limits
from dermdistill.serve.middleware import Guard, note
from dermdistill.serve.observability import Metrics
from dermdistill.serve.problems import Refusal
from dermdistill.serve.worker_pool import WorkerPool

PAGE = Path(__file__).parent / "page"


def make_app(
    predictor: Predictor,
    limits: Limits | None = None,
    *,
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
) -> FastAPI:
    """Make the ASGI application of the page and the API on one predictor.

    Args:
        predictor: On an ONNX file, each worker is a process that opens it; else a thread that calls it.
        limits: What is taken.
        hosts: Names that the Host header may have, beside localhost and any address.
        origins: Other sites whose pages may use the API (CORS); by default none.

    Returns:
        The application; it segments a blank image when it starts.
    """
    limits = limits or Limits()
    metrics = Metrics(predictor.model)
    metrics.capacity.set(limits.slots)

    pool = WorkerPool(predictor, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            pool.wait_until_ready()  # a model that does not run does not start
            fields = {"version": __version__, "workers": limits.workers, **predictor.model}
            logging.getLogger(LOGGER).info("ready", extra={"fields": fields})
            yield
        finally:
            pool.close()

    app = FastAPI(
        title="dermdistill",
        version=__version__,
        summary="Outlines of skin lesions. Not a medical device.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.pool = pool
    app.include_router(make_router(predictor.card, limits, pool, metrics))
    app.mount("/", _Page(directory=PAGE, html=True))
    _handle_errors(app, metrics)
    _complete_openapi(app)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Guard, metrics=metrics, hosts=hosts, origins=origins)
    return app


class _Page(StaticFiles):
    """The page's files; the browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _handle_errors(app: FastAPI, metrics: Metrics) -> None:
    """Turn each error of a route into a response in the form of `Problem`, counted and logged by its code."""

    def refused(request: Request, refusal: Refusal) -> Response:
        note(request.scope, code=refusal.code)
        metrics.refused.labels(code=refusal.code).inc()
        return refusal.response(request_id.get())

    @app.exception_handler(Refusal)
    async def _refusal(request: Request, error: Refusal) -> Response:
        return refused(request, error)

    @app.exception_handler(RequestValidationError)
    async def _parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"][1:]))
        value = repr(first.get("input"))[:100]
        return refused(
            request, Refusal(422, "bad_parameter", f"The parameter {name} is {value}: {first['msg']}.")
        )

    @app.exception_handler(HTTPException)
    async def _other(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "bad_method"}.get(error.status_code, "refused")
        detail = {
            404: "There is nothing at this path.",
            405: f"{request.method} cannot be done here.",
        }.get(error.status_code, str(error.detail))
        return refused(request, Refusal(error.status_code, code, detail, headers=dict(error.headers or {})))


def _complete_openapi(app: FastAPI) -> None:
    """Add the responses' schemas: routes return bytes, whose form FastAPI cannot see."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"] = schemas() | {
            name: schema
            for name, schema in document["components"]["schemas"].items()
            if name not in ("HTTPValidationError", "ValidationError")  # sent as Problem
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]
