"""A prediction as JSON, GeoJSON or PNG. All of it runs in a worker."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from dermdistill import imaging
from dermdistill.core.errors import DataError
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.imaging.dicom import DicomFacts
from dermdistill.inference import formats
from dermdistill.inference.predictor import Prediction, Predictor
from dermdistill.inference.writers import draw_overlay
from dermdistill.serve.forms import image_in
from dermdistill.serve.problems import Refusal

Output = Literal["json", "mask", "overlay", "geojson", "image"]
Ring = list[tuple[float, float]]

_MAP_SIDE = 640  # longer side of the probability map: finer than the network's own, small enough to send
_VIEW_SIDE = 1600  # of the photograph for browsers that cannot decode the file
_DIGITS = 2  # of an outline's coordinate: a hundredth of a pixel


class ProbabilityMap(BaseModel):
    """The probability of lesion, for drawing outlines at any threshold without asking again."""

    model_config = ConfigDict(extra="forbid")

    width: int
    height: int
    png: str = Field(description="8-bit grey PNG in base64; the probability is value / 255.")


class Warned(BaseModel):
    """A reason not to trust the outline."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(description="A stable name, such as blur or cut_by_border.")
    message: str = Field(description="For people.")
    value: float = Field(description="What was measured.")
    limit: float = Field(description="The limit that it passed.")


class Segmentation(BaseModel):
    """The outline of one image. Pixels are those of the image turned upright by its EXIF orientation."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(description="As in the header X-Request-ID.")
    width: int = Field(description="Of the image, in pixels.")
    height: int
    threshold: float = Field(description="A pixel is lesion where its probability is above this.")
    area_fraction: float = Field(ge=0, le=1, description="Lesion pixels over all pixels.")
    bounding_box: tuple[int, int, int, int] | None = Field(
        description="x0, y0, x1, y1 of the mask, x1 and y1 exclusive; null where it is empty."
    )
    confidence: float = Field(
        ge=0,
        le=1,
        description="Mean probability of lesion inside the mask; "
        "where that is empty, of no lesion in the image.",
    )
    uncertainty: float | None = Field(
        description="Disagreement of mirrored views, 0 to 1; null unless the server runs with --tta."
    )
    mm_per_pixel: float | None = Field(description="As given, or as a DICOM file says.")
    measures: dict[str, int | float] = Field(
        description="Plain geometry of the outline, not a diagnosis: regions, area_px, perimeter_px, "
        "longest_diameter_px, compactness, solidity, asymmetry …; in millimetres only with mm_per_pixel."
    )
    warnings: list[Warned] = Field(description="Reasons not to trust the outline; none is no promise.")
    not_checked: list[str] = Field(description="Codes of warnings that this model cannot give.")
    outline: list[list[Ring]] = Field(
        description="Regions, the largest first; each its outer ring, then its holes, as closed rings of x, "
        "y in pixels from the upper left corner (a GeoJSON MultiPolygon's coordinates)."
    )
    model: dict[str, str] = Field(description="Recipe and SHA-256 of the weights.")
    dicom: DicomFacts | None = Field(None, description="What a DICOM file says of its picture.")
    probability_map: ProbabilityMap | None = Field(None, description="Only with probability_map=true.")


@dataclasses.dataclass(frozen=True)
class ResponseOptions:
    """The parameters of a request to ``/v1/segment``."""

    output: Output = "json"
    threshold: float | None = None
    """Lesion where the probability is above it, in (0, 1); None: the model card's."""
    mm_per_pixel: float | None = None
    """Side of a pixel in millimetres; None: unknown."""
    probability_map: bool = False
    """Whether the JSON carries the probability map too."""


@dataclasses.dataclass(frozen=True)
class EncodedResponse:
    """The body of a response and its media type."""

    body: bytes
    media_type: str
    warnings: tuple[str, ...] = ()
    """Codes of the warnings in it."""


def segment_body(
    predictor: Predictor,
    *,
    body: bytes,
    content_type: str,
    options: ResponseOptions,
    max_bytes: int,
    max_pixels: int,
    request_id: str,
) -> EncodedResponse:
    """Segment the image in a request's body, and encode what the request asks for.

    Args:
        predictor: It segments the image.
        body: An image file, or a form with one.
        content_type: Of the body.
        options: The request's parameters.
        max_bytes: Of the file.
        max_pixels: Most pixels that are taken, as read in the file's header.
        request_id: It is written into the JSON.

    Returns:
        The response's body: JSON, GeoJSON or a PNG.

    Raises:
        Refusal: 400, 413 or 422: the form or the image cannot be read, or is too large.
    """
    data = image_in(body, content_type, max_bytes)
    try:
        _check_pixels(data, max_pixels)
        if options.output == "image":
            return EncodedResponse(imaging.encode_png(_small(data)), "image/png")
        image = predictor.read(data, keep=options.output == "overlay")
        (prediction,) = predictor.predict_inputs([image])
        if options.threshold is not None:
            prediction = prediction.at(options.threshold)
        match options.output:
            case "mask":
                return EncodedResponse(imaging.encode_png(prediction.mask), "image/png")
            case "overlay":
                picture = image.native or imaging.open_picture(data).image
                draw_overlay(picture, prediction)
                return EncodedResponse(imaging.encode_png(np.asarray(picture)), "image/png")
            case "geojson":
                collection = formats.geojson(prediction, "image", options.mm_per_pixel)
                return EncodedResponse(json.dumps(collection).encode(), "application/geo+json")
            case "json":
                return _as_json(prediction, options, request_id)
    except DataError as error:
        detail = error.found[:1].upper() + error.found[1:]
        raise Refusal(422, "unreadable_image", detail, error.expected, error.fix) from None


def _check_pixels(data: bytes, max_pixels: int) -> None:
    width, height = imaging.image_size(data)
    if width * height > max_pixels:
        raise Refusal(
            422,
            "too_many_pixels",
            f"The image has {width} × {height} pixels.",
            f"at most {max_pixels:,} pixels",
            "Save it at a smaller size.",
        )


def _as_json(prediction: Prediction, options: ResponseOptions, request_id: str) -> EncodedResponse:
    values: dict[str, Any] = {
        "request_id": request_id,
        **prediction.to_json(options.mm_per_pixel),
        "outline": [
            [ring.round(_DIGITS).tolist() for ring in (polygon.exterior, *polygon.holes)]
            for polygon in prediction.polygons
        ],
        "probability_map": _map(prediction.prob) if options.probability_map else None,
    }
    text = Segmentation.model_validate(values).model_dump_json()
    return EncodedResponse(
        text.encode(), "application/json", tuple(each.code for each in prediction.warnings)
    )


def _map(prob: Float32Array) -> ProbabilityMap:
    """Encode a probability map, float32 [h, w], as a grey PNG of at most _MAP_SIDE pixels a side."""
    height, width = prob.shape
    scale = min(1.0, _MAP_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(prob).resize(size, Image.Resampling.BILINEAR) if scale < 1 else prob
    grey = np.rint(np.asarray(small) * np.float32(255)).astype(np.uint8)
    return ProbabilityMap(
        width=size[0], height=size[1], png=base64.b64encode(imaging.encode_png(grey, grey=True)).decode()
    )


def _small(data: bytes) -> UInt8Array:
    """Decode an image file to at most _VIEW_SIDE pixels a side: RGB uint8 [h, w, 3], turned upright."""
    picture = imaging.open_picture(data, near=_VIEW_SIDE // 2).image  # at least _VIEW_SIDE a side
    picture.thumbnail((_VIEW_SIDE, _VIEW_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(picture)
