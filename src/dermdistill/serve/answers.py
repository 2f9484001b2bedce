"""A prediction as JSON or PNG. All of it runs in a worker thread."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from dermdistill import imaging
from dermdistill.errors import DataError
from dermdistill.imaging import Float32Array, UInt8Array
from dermdistill.predict import OUTLINE, Prediction, Predictor
from dermdistill.serve.observe import Metrics
from dermdistill.serve.problems import Refusal

Output = Literal["json", "mask", "overlay", "image"]

_MAP_SIDE = 640  # longer side of the probability map: finer than the network's own, small enough to send
_VIEW_SIDE = 1600  # of the photograph for browsers that cannot decode the file


class ProbabilityMap(BaseModel):
    """The probability of lesion, for drawing outlines at any threshold without asking again."""

    model_config = ConfigDict(extra="forbid")

    width: int
    height: int
    png: str = Field(description="8-bit grey PNG in base64; the probability is value / 255.")


class Segmentation(BaseModel):
    """One image's answer. Pixels are those of the image turned upright by its EXIF orientation."""

    model_config = ConfigDict(extra="forbid")

    request_id: str = Field(description="As in the header X-Request-ID.")
    width: int = Field(description="Of the image, in pixels.")
    height: int
    threshold: float = Field(description="A pixel is lesion where its probability is above this.")
    area_fraction: float = Field(ge=0, le=1, description="Lesion pixels over all pixels.")
    bounding_box: tuple[int, int, int, int] | None = Field(
        description="x0, y0, x1, y1 of the mask, x1 and y1 exclusive; null where it is empty."
    )
    mean_confidence: float = Field(
        ge=0,
        le=1,
        description="Mean probability of lesion inside the mask; "
        "where that is empty, of no lesion in the image.",
    )
    model: dict[str, str] = Field(description="Recipe and SHA-256 of the weights.")
    probability_map: ProbabilityMap | None = Field(None, description="Only with probability_map=true.")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a request asks for."""

    output: Output = "json"
    threshold: float | None = None
    probability_map: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """A body and its media type."""

    body: bytes
    media_type: str


def answer(
    predictor: Predictor, data: bytes, wanted: Wanted, max_pixels: int, request_id: str, metrics: Metrics
) -> Answer:
    """Segment one image file.

    Raises:
        Refusal: 422, it cannot be read or has too many pixels.
    """
    try:
        width, height = imaging.image_size(data)
        if width * height > max_pixels:
            raise Refusal(
                422,
                "too_many_pixels",
                f"The image has {width} × {height} pixels.",
                f"at most {max_pixels:,} pixels",
                "Save it at a smaller size.",
            )
        if wanted.output == "image":
            return Answer(_png(_small(imaging.read_image(data), _VIEW_SIDE)), "image/png")
        prediction = predictor(data)
        threshold = predictor.card.threshold if wanted.threshold is None else wanted.threshold
        if threshold != predictor.card.threshold:
            prediction = prediction.at(threshold)
        match wanted.output:
            case "mask":
                return Answer(_png(prediction.mask * np.uint8(255)), "image/png")
            case "overlay":
                picture = imaging.overlay(imaging.read_image(data), [(prediction.mask, OUTLINE)])
                return Answer(_png(picture), "image/png")
            case "json":
                return _as_json(prediction, threshold, wanted, request_id)
    except DataError as error:
        found = error.found[:1].upper() + error.found[1:]
        raise Refusal(422, "unreadable_image", found, error.expected, error.mend) from None


def _as_json(prediction: Prediction, threshold: float, wanted: Wanted, request_id: str) -> Answer:
    values: dict[str, Any] = {
        "request_id": request_id,
        "threshold": threshold,
        "width": prediction.mask.shape[1],
        "height": prediction.mask.shape[0],
        "area_fraction": round(prediction.area_fraction, 6),
        "bounding_box": prediction.bounding_box,
        "mean_confidence": round(prediction.confidence, 6),
        "model": prediction.model,
        "probability_map": _map(prediction.prob) if wanted.probability_map else None,
    }
    return Answer(Segmentation.model_validate(values).model_dump_json().encode(), "application/json")


def _map(prob: Float32Array) -> ProbabilityMap:
    height, width = prob.shape
    share = min(1.0, _MAP_SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = Image.fromarray(prob).resize(size, Image.Resampling.BILINEAR) if share < 1 else prob
    grey = np.rint(np.asarray(small) * np.float32(255)).astype(np.uint8)
    return ProbabilityMap(width=size[0], height=size[1], png=base64.b64encode(_png(grey)).decode())


def _small(image: UInt8Array, side: int) -> UInt8Array:
    height, width = image.shape[:2]
    gap = math.floor(max(height, width) / side)
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0 if gap > 1 else None)
    return np.asarray(picture)


def _png(array: UInt8Array) -> bytes:
    out = io.BytesIO()
    # Level 1: a photograph of 24 megapixels would take several seconds at the usual 6, for a tenth less.
    Image.fromarray(array).save(out, "PNG", compress_level=1)
    return out.getvalue()
