"""A stand-in for the network, and pictures for it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from dermdistill.artifacts.card import make_card

CARD = make_card(
    role="student", model={"arch": "unet-nano"}, input_size=32, mean=[0.5] * 3, std=[0.5] * 3,
    weights="w.pth", weights_sha256="ab", dataset={"name": "x", "fingerprint": "y"}, recipe="r", seed=0,
    parameters=1,
)  # fmt: skip


def darkness(batch: np.ndarray) -> np.ndarray:
    """A backend: dark is lesion."""
    return (1 - batch.mean(axis=1, keepdims=True)).astype(np.float32)


def picture(height: int = 60, width: int = 90, dark: int = 20) -> np.ndarray:
    """A dark rectangle, a third of the sides, in the middle of bright skin."""
    image = np.full((height, width, 3), 230, np.uint8)
    image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = dark
    return image


def encoded(image: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """As a file."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """Of a file."""
    return np.asarray(Image.open(io.BytesIO(content)))
