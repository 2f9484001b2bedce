"""The routes of the HTTP API."""

from __future__ import annotations

import functools
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from dermdistill._version import __version__
from dermdistill.artifacts.card import ModelCard
from dermdistill.inference.shape import MAX_MM_PER_PIXEL, MIN_MM_PER_PIXEL
from dermdistill.serve.forms import FIELD
from dermdistill.serve.json_logs import request_id
from dermdistill.serve.limits import Limits
from dermdistill.serve.middleware import note
from dermdistill.serve.observability import METRICS_TYPE, Metrics
from dermdistill.serve.problems import Refusal, documented
from dermdistill.serve.responses import Output, ResponseOptions, Segmentation, segment_body
from dermdistill.serve.uploads import Uploads
from dermdistill.serve.worker_pool import WorkerPool

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "A JPEG, PNG, BMP, TIFF, WebP, GIF or AVIF file, or (with the extras) DICOM or HEIC: "
        "as a form's field, or as the body itself.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: _BINARY["schema"]},
                    "required": [FIELD],
                }
            },
            "image/*": _BINARY,
            "application/dicom": _BINARY,
            "application/octet-stream": _BINARY,
        },
    }
}


class Health(BaseModel):
    """The server is up, and its model has segmented a first image."""

    model_config = ConfigDict(extra="forbid")

    status: str = Field("ok", description="Always ok: a server whose model does not run does not start.")
    version: str = Field(description="Of dermdistill.")
    slots: int = Field(description="Requests that can be waiting or computed at once.")
    slots_taken: int


class Service(BaseModel):
    """The model, and what this server takes."""

    model_config = ConfigDict(extra="forbid")

    version: str = Field(description="Of dermdistill.")
    card: ModelCard
    max_upload_bytes: int
    max_pixels: int
    notice: str = "Not a medical device."


def make_router(card: ModelCard, limits: Limits, pool: WorkerPool, metrics: Metrics) -> APIRouter:
    """Make the routes of the API.

    Args:
        card: Of the model.
        limits: The bounds of the server.
        pool: It runs the jobs.
        metrics: The counters that ``/metrics`` shows.

    Returns:
        A router with ``/v1/segment``, ``/v1/model``, ``/healthz`` and ``/metrics``.
    """
    router = APIRouter()
    uploads = Uploads(limits)

    @router.post(
        "/v1/segment",
        summary="Segment one image",
        response_class=Response,
        responses={
            200: {
                "description": "JSON; or a PNG or GeoJSON, where output or Accept ask for one.",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Segmentation"}},
                    "image/png": _BINARY,
                    "application/geo+json": {"schema": {"type": "object"}},
                },
            },
            **documented(400, 403, 406, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra=_BODY,
    )
    async def segment(
        request: Request,
        output: Annotated[
            Output | None,
            Query(
                description="json; mask: PNG of 0 and 255 at native size; overlay: the image with its "
                "outline; geojson: the outline; image: the image turned upright, at most 1600 pixels, not "
                "segmented. By default Accept decides: image/png means mask."
            ),
        ] = None,
        threshold: Annotated[
            float | None,
            Query(gt=0, lt=1, description="Of the probability; by default the model card's."),
        ] = None,
        mm_per_pixel: Annotated[
            float | None,
            Query(
                ge=MIN_MM_PER_PIXEL,
                le=MAX_MM_PER_PIXEL,
                description="Side of a pixel; with it lengths and areas in mm too.",
            ),
        ] = None,
        probability_map: Annotated[
            bool, Query(description="Add the probability map to the JSON, at most 640 pixels wide or high.")
        ] = False,
    ) -> Response:
        """Find the lesion in one photograph. The image is not kept."""
        options = ResponseOptions(output or _by_accept(request), threshold, mm_per_pixel, probability_map)
        pool.refuse_if_full()
        async with uploads.receive(request) as body:
            metrics.uploaded.inc(len(body))
            note(request.scope, bytes_in=len(body), output=options.output)
            with pool.slot() as slot:
                job = functools.partial(
                    segment_body,
                    body=body,
                    content_type=request.headers.get("content-type", ""),
                    options=options,
                    max_bytes=limits.max_upload_bytes,
                    max_pixels=limits.max_pixels,
                    request_id=request_id.get(),
                )
                encoded = await slot.run(job, request.is_disconnected)
        for code in encoded.warnings:
            metrics.warnings.labels(code=code).inc()
        return Response(encoded.body, media_type=encoded.media_type)

    @router.get("/v1/model", summary="The model's card, and what this server takes")
    async def model() -> Service:
        return Service(
            version=__version__,
            card=card,
            max_upload_bytes=limits.max_upload_bytes,
            max_pixels=limits.max_pixels,
        )

    @router.get("/healthz", summary="Whether the server is up")
    async def healthz() -> Health:
        return Health(version=__version__, slots=limits.slots, slots_taken=pool.taken)

    @router.get(
        "/metrics",
        summary="Metrics in Prometheus' text form",
        response_class=Response,
        responses={200: {"content": {METRICS_TYPE: {"schema": {"type": "string"}}}}},
    )
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=METRICS_TYPE)

    return router


def _by_accept(request: Request) -> Output:
    """Choose the output for the first type in Accept, by their weights, that the API can send.

    Raises:
        Refusal: 406, it can send none of them.
    """
    accepted = request.headers.get("accept", "") or "*/*"
    weighed: list[tuple[float, str]] = []
    for part in accepted.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        try:
            weighed.append((float(weight), kind))
        except ValueError:
            continue
    output_of_type: dict[str, Output] = {
        "application/json": "json", "application/*": "json", "*/*": "json",
        "image/png": "mask", "image/*": "mask", "application/geo+json": "geojson",
    }  # fmt: skip
    for likes, kind in sorted(weighed, key=lambda each: -each[0]):
        if likes > 0 and kind in output_of_type:
            return output_of_type[kind]
    raise Refusal(
        406, "not_acceptable", f"Accept asks for {accepted[:200]}.", "application/json or image/png"
    )


def schemas() -> dict[str, Any]:
    """Collect the JSON schemas of responses that FastAPI does not find itself.

    Returns:
        By name: the schemas of `Segmentation` and `Problem`, and those that they refer to.
    """
    from dermdistill.serve.problems import Problem

    components: dict[str, Any] = {}
    for model in (Segmentation, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        components |= schema.pop("$defs", {}) | {model.__name__: schema}
    return components
