"""Generated, dermoscopy-like images with exact masks: the default and the tests' data, never evidence.

Each picture is a function of (seed, index, size). Skin, lesion and light are built from smooth random fields;
hairs, ruler ticks and bubbles are drawn over them, as they lie over real lesions.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from dermdistill.core.files import atomic_path, write_csv
from dermdistill.imaging import UInt8Array, write_png

Field = NDArray[np.float32]

# Fitzpatrick I to VI, as seen under a dermatoscope's own light.
SKIN = np.array(
    [(240, 205, 198), (232, 190, 175), (222, 172, 150), (198, 142, 115), (156, 104, 80), (112, 72, 56)],
    dtype=np.float32,
)
BROWN, BLACK, BLUE_GREY, RED, WHITE = np.array(
    [(112, 66, 42), (44, 30, 28), (96, 106, 128), (186, 88, 80), (226, 208, 200)], dtype=np.float32
)

# Share of the image that is lesion, by cumulated frequency: that of the 2,150 masks of ISIC 2017 at hand, cut
# off where a lesion would be a few pixels or the whole picture.
AREA_AT = np.array([0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 1.0])
AREA = np.array([0.012, 0.015, 0.024, 0.050, 0.126, 0.284, 0.467, 0.65])


@dataclass(frozen=True)
class Phantom:
    """A picture uint8 [s, s, 3], its mask {0, 1} uint8 [s, s], and benign or malignant."""

    image: UInt8Array
    mask: UInt8Array
    diagnosis: str


def make_phantom(seed: int, index: int, size: int = 256) -> Phantom:
    """Draw one phantom; the same arguments give the same arrays.

    Args:
        seed: Of the data set. index: Of the picture in it.
        size: Side in pixels, at least 32.
    """
    rng = np.random.default_rng([seed, index])
    malignant = bool(rng.random() < 0.3)
    skin = _skin(rng, size)
    depth = _depth(rng, size, malignant)
    mask = (depth > 0).astype(np.uint8)
    image = _blend_lesion(rng, skin, depth, malignant)
    image = _light(rng, image)
    image = _draw_over(rng, image)
    noise = rng.normal(0, rng.uniform(1.5, 4), (size, size, 3)).astype(np.float32)
    finished = Image.fromarray((image + noise).clip(0, 255).astype(np.uint8))
    finished = finished.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7) * size / 256))
    return Phantom(np.asarray(finished), mask, "malignant" if malignant else "benign")


def write_phantoms(folder: Path, count: int, size: int, seed: int, *, progress: bool = False) -> None:
    """Write ``images/``, ``masks/`` and ``phantoms.csv``; pictures that are there already are kept."""
    rows = []
    for index in tqdm(range(count), desc="phantoms", unit="image", disable=not progress, leave=False):
        name = f"PHANTOM_{index:05d}"
        image_path = folder / "images" / f"{name}.jpg"
        mask_path = folder / "masks" / f"{name}_Segmentation.png"
        phantom = make_phantom(seed, index, size)
        if not (image_path.exists() and mask_path.exists()):
            stream = io.BytesIO()
            Image.fromarray(phantom.image).save(stream, "JPEG", quality=92)
            with atomic_path(image_path) as temporary:
                temporary.write_bytes(stream.getvalue())
            write_png(mask_path, phantom.mask)
        rows.append({"image_id": name, "diagnosis": phantom.diagnosis})
    write_csv(folder / "phantoms.csv", rows, ["image_id", "diagnosis"])


def _field(rng: np.random.Generator, size: int, cells: int) -> Field:
    """A smooth random field of about ``cells`` bumps across, mean 0, standard deviation about 1."""
    coarse = rng.normal(0, 1, (cells + 1, cells + 1)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return (smooth / max(float(smooth.std()), 1e-3)).astype(np.float32)


def _skin(rng: np.random.Generator, size: int) -> Field:
    tone = rng.uniform(0, len(SKIN) - 1) if rng.random() < 0.4 else rng.uniform(0, 2)
    low = int(tone)
    base = SKIN[low] + (tone - low) * (SKIN[min(low + 1, len(SKIN) - 1)] - SKIN[low])
    base = base + rng.normal(0, 6, 3).astype(np.float32)
    mottle = _field(rng, size, 4) * 4 + _field(rng, size, 14) * 2.5
    pores = _field(rng, size, size // 5) * _field(rng, size, size // 4) * 2
    redness = _field(rng, size, 5)[..., None] * np.array((3, -2, -2), dtype=np.float32)
    skin: Field = base + (mottle + pores)[..., None] + redness
    return skin


def _depth(rng: np.random.Generator, size: int, malignant: bool) -> Field:
    """Signed depth inside the lesion in units of its radius: above 0 is lesion, and that is the mask."""
    squeeze = rng.uniform(0.65, 1.0)
    radius = float(np.sqrt(np.interp(rng.random(), AREA_AT, AREA) / (np.pi * squeeze)))
    room = max(0.0, 0.42 - radius * rng.uniform(0.8, 1.1))
    cx, cy = 0.5 + rng.uniform(-room, room, 2)
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size
    turn = rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / squeeze
    angle, distance = np.arctan2(v, u), np.hypot(u, v) / radius
    rough = 1.6 if malignant else 0.8
    outline = np.ones_like(angle)
    for wave in range(2, 9):
        amplitude = rough * 0.14 / wave * rng.normal()
        outline += amplitude * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    fine = _field(rng, size, 12) * 0.03 * rough + _field(rng, size, 32) * 0.012 * rough
    depth: Field = (outline.clip(0.45, 1.7) - distance + fine).astype(np.float32)
    return depth


def _blend_lesion(rng: np.random.Generator, skin: Field, depth: Field, malignant: bool) -> Field:
    size = depth.shape[0]
    strength = rng.uniform(0.7, 1.0) if rng.random() < 0.85 else rng.uniform(0.4, 0.7)
    softness = rng.uniform(0.02, 0.08) if malignant else rng.uniform(0.03, 0.18)
    cover = 1 / (1 + np.exp(-(depth / softness).clip(-30, 30)))
    shade = rng.uniform(0.4, 1.0)
    pigment = BROWN * rng.uniform(0.7, 1.05) * shade + skin.mean(axis=(0, 1)) * (1 - shade) * np.array(
        (0.7, 0.52, 0.45), dtype=np.float32
    )
    color = np.broadcast_to(pigment, skin.shape).copy()
    patches = [(BLACK, 0.9), (BROWN, 0.8)] + (
        [(BLUE_GREY, 0.8), (RED, 0.6), (WHITE, 0.55)] if malignant else []
    )
    for paint, opacity in patches:
        where = _field(rng, size, int(rng.integers(3, 8))) - rng.uniform(0.2, 1.4)
        color += (paint - color) * (opacity * (where * 1.5).clip(0, 1))[..., None]
    grain = _field(rng, size, size // 7)
    # The zero lines of a random field form a net, as pigment does.
    network = np.exp(-4 * np.abs(_field(rng, size, size // 9))) * rng.uniform(0, 34)
    color += (grain * rng.uniform(2, 9) - network + _field(rng, size, 9) * 6)[..., None]
    # A lesion keeps some of the skin's own texture, and its colour is deeper towards the middle.
    opacity = cover * strength * (0.75 + 0.25 * depth.clip(0, 1))
    blended: Field = skin + (color - skin) * opacity[..., None]
    return blended


def _light(rng: np.random.Generator, image: Field) -> Field:
    """Uneven light, and on some the round dark rim of the dermatoscope."""
    size = image.shape[0]
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    tilt = 1 + rng.uniform(-0.12, 0.12) * x + rng.uniform(-0.12, 0.12) * y
    falloff = 1 - rng.uniform(0, 0.22) * (x**2 + y**2)
    image = image * (tilt * falloff)[..., None]
    if rng.random() < 0.4:
        edge = np.hypot(x - rng.normal(0, 0.04), y - rng.normal(0, 0.04)) - rng.uniform(1.05, 1.3)
        image = image * (1 / (1 + np.exp((edge / rng.uniform(0.02, 0.06)).clip(-30, 30))))[..., None]
    return image * np.float32(rng.uniform(0.85, 1.1))


def _draw_over(rng: np.random.Generator, image: Field) -> Field:
    """Hairs, ruler ticks and gel bubbles, drawn at twice the size for smooth edges."""
    size = image.shape[0]
    side = 2 * size
    canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8)).resize((side, side))
    pen = ImageDraw.Draw(canvas, "RGBA")
    if rng.random() < 0.55:
        _draw_hairs(rng, pen, side, int(rng.integers(2, 26)))
    if rng.random() < 0.25:
        _draw_ruler(rng, pen, side)
    for _ in range(int(rng.integers(0, 7)) if rng.random() < 0.3 else 0):
        x, y = rng.uniform(0, side, 2)
        r = rng.uniform(0.008, 0.04) * side
        pen.ellipse((x - r, y - r, x + r, y + r), outline=(250, 250, 250, 110), width=max(1, side // 250))
        pen.ellipse((x - r / 2, y - r / 2, x - r / 5, y - r / 5), fill=(255, 255, 255, 190))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32)


def _draw_hairs(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int, count: int) -> None:
    light = rng.random() < 0.2
    direction = rng.uniform(0, 2 * np.pi)
    for _ in range(count):
        start = rng.uniform(0, side, 2)
        angle, length = direction + rng.normal(0, 0.5), rng.uniform(0.25, 0.9) * side
        along = np.array((np.cos(angle), np.sin(angle)))
        bend = np.array((-along[1], along[0])) * rng.normal(0, 0.18) * length
        t = np.linspace(0, 1, 24)[:, None]
        points = start + along * length * t + bend * 4 * t * (1 - t)
        color = (
            (222, 200, 170, 190)
            if light
            else (*((np.array((50, 38, 32)) * rng.uniform(0.4, 1.5)).astype(int).tolist()), 225)
        )
        thick = rng.uniform(0.004, 0.011) * side
        for i in range(len(points) - 1):  # a hair tapers towards its tip
            pen.line(
                [*points[i], *points[i + 1]], fill=color, width=max(1, round(thick * (1 - 0.75 * i / 23)))
            )


def _draw_ruler(rng: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    gap, far, upright = rng.uniform(0.035, 0.07) * side, rng.random() < 0.5, rng.random() < 0.5
    for i in range(int(side / gap) + 1):
        length = side * (0.07 if i % 5 == 0 else 0.04)
        near, end = (side - length, side) if far else (0, length)
        line = [near, i * gap, end, i * gap] if upright else [i * gap, near, i * gap, end]
        pen.line(line, fill=(30, 30, 35, 200), width=max(1, side // 170))
