"""Pictures that a warning should be given for, made from good ones or from nothing (used by trust.py)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 256
Picture = np.ndarray  # uint8 [h, w, 3]

# Photographs that lie inside installed packages: nothing is downloaded.
PHOTOS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": tuple(
        f"data/{name}"
        for name in (
            "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png",
            "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
            "page.png", "retina.jpg", "rocket.jpg",
        )
    ),
}  # fmt: skip


def blurred(image: Picture, sigma: float) -> Picture:
    """Gaussian blur, sigma in pixels at 256 × 256."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def exposed(image: Picture, gain: float) -> Picture:
    """Brightness times ``gain``, clipped as a sensor clips."""
    return (image.astype(np.float32) * gain).clip(0, 255).astype(np.uint8)


def cut(image: Picture, mask: np.ndarray) -> Picture:
    """The part right of the lesion's centre of area: the border goes through its middle."""
    middle = int(np.average(np.arange(mask.shape[1]), weights=mask.sum(axis=0)))
    middle = min(middle, mask.shape[1] - 64)
    return np.asarray(Image.fromarray(image[:, middle:]).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def pair(left: Picture, right: Picture) -> Picture:
    """Two pictures side by side, squashed to a square: two lesions in one."""
    both = Image.fromarray(np.concatenate([left, right], axis=1))
    return np.asarray(both.resize((SIDE, SIDE), Image.Resampling.BOX))


def bare_skin(image: Picture, mask: np.ndarray, least: int = 80) -> Picture | None:
    """The largest square at a corner that holds none of the lesion; None where it is under ``least``."""
    side = least - 1
    best: Picture | None = None
    for flipped_image, flipped_mask in (
        (np.flip(image, axes), np.flip(mask, axes)) for axes in ((), (0,), (1,), (0, 1))
    ):
        rows, columns = np.nonzero(flipped_mask)
        free = int(np.maximum(rows, columns).min()) - 4 if rows.size else len(mask)
        if free > side:
            side, best = free, flipped_image[:free, :free]
    if best is None:
        return None
    square = Image.fromarray(np.ascontiguousarray(best))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def photographs(crops: int = 6, seed: int = 0) -> Iterator[tuple[str, Picture]]:
    """Name and pixels of the photographs that are at hand: each whole, and some random squares of it."""
    rng = np.random.default_rng(seed)
    for package, names in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec else []
        for name in names:
            path = Path(places[0]) / name if places else None
            if path is None or not path.is_file():
                continue
            image = Image.open(path).convert("RGB")
            yield path.stem, np.asarray(image)
            for _ in range(crops):
                side = int(rng.integers(min(128, *image.size), min(image.size) + 1))
                x, y = (int(rng.integers(0, length - side + 1)) for length in image.size)
                yield path.stem, np.asarray(image.crop((x, y, x + side, y + side)))


def generated(count: int = 12, seed: int = 0) -> Iterator[tuple[str, Picture]]:
    """Kind and pixels of pictures made of nothing: noise, colour, gradients, stripes, text, shapes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for _ in range(count):
        low, high = rng.integers(0, 256, (2, 3))
        yield "noise", rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        yield "one colour", np.broadcast_to(low.astype(np.uint8), (SIDE, SIDE, 3)).copy()
        angle = rng.uniform(0, 2 * np.pi)
        ramp = (x * np.cos(angle) + y * np.sin(angle))[..., None]
        ramp = (ramp - ramp.min()) / (ramp.max() - ramp.min())
        yield "gradient", (low + (high - low) * ramp).astype(np.uint8)
        wave = np.sin(2 * np.pi * rng.uniform(4, 30) * ramp) > 0
        yield "stripes", np.where(wave, low, high).astype(np.uint8)
        yield "text", _text(rng)
        yield "shapes", _shapes(rng)


def _text(rng: np.random.Generator) -> Picture:
    page = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(page)
    for line in range(12, SIDE - 12, int(rng.integers(12, 20))):
        letters = "".join(rng.choice(list("abcdefghij klmno pqrs tuvwxyz "), 38))
        draw.text((10, line), letters, fill="black")
    return np.asarray(page)


def _shapes(rng: np.random.Generator) -> Picture:
    scene = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(scene)
    for _ in range(8):
        box = np.sort(rng.integers(0, SIDE, (2, 2)), axis=0).ravel().tolist()
        kind = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        kind(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(scene)
