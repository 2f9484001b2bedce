"""Pictures that the tests of the audit share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from dermdistill.audit.entries import Entry
from dermdistill.data.prepare.phantom import make_phantom


def phantom(index: int) -> Image.Image:
    """A generated lesion, 256×256."""
    return Image.fromarray(make_phantom(7, index, 256).image)


def photographed_again(picture: Image.Image, degrees: float = 20) -> Image.Image:
    """Turned, closer, in another light, with other noise."""
    turned = picture.rotate(degrees, Image.Resampling.BICUBIC).crop((35, 35, 221, 221)).resize((256, 256))
    values = np.asarray(turned) * np.array([0.8, 0.9, 1.05])
    noise = np.random.default_rng(0).normal(0, 2, values.shape)
    return Image.fromarray((values + noise).clip(0, 255).astype(np.uint8))


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def entry(name: str, split: str = "train", set_name: str = "a", group: str = "") -> Entry:
    return Entry(set_name, name, split, Path(f"/nowhere/{name}.png"), group)
