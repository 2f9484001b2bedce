"""Small images, masks and zips for the tests of prepare, and packs made of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermdistill.data.dataset import PreparedData
from dermdistill.data.prepare.folders import prepare_folder
from dermdistill.data.prepare.prepare import prepare_source


def image_bytes(suffix: str = ".jpg", width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    """A picture of noise, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), suffix)


def mask_bytes(suffix: str = ".png", width: int = 40, height: int = 30, seed: int = 0) -> bytes:
    """A disc of 255 on 0, of another size for each seed."""
    y, x = np.mgrid[:height, :width]
    radius = (0.2 + 0.02 * (seed % 10)) * min(width, height)
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < radius**2
    return encode(Image.fromarray((disc * 255).astype(np.uint8)), suffix)


def encode(image: Image.Image, suffix: str) -> bytes:
    """The bytes of a file of that kind."""
    stream = io.BytesIO()
    image.save(stream, Image.registered_extensions()[suffix.lower()])
    return stream.getvalue()


def write(path: Path, content: bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_pairs(folder: Path, count: int, *, first: int = 0, ending: str = "_Segmentation.png") -> None:
    """``images/p<n>.jpg`` and ``masks/p<n><ending>``, of 40 × 30 pixels."""
    for n in range(first, first + count):
        write(folder / "images" / f"p{n}.jpg", image_bytes(seed=n))
        write(folder / "masks" / f"p{n}{ending}", mask_bytes(Path(ending).suffix, seed=n))


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """The bytes of a zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return stream.getvalue()


def prepare_official(name: str, root: Path, **how: Any) -> PreparedData:
    """A data set of the catalogue, small and without waiting."""
    return prepare_source(name, root, **({"size": 32, "progress": False, "backoff": 0.01} | how))


def prepare_own(folder: Path, **changes: Any) -> PreparedData:
    """The images and masks that lie in ``folder``, small."""
    arguments: dict[str, Any] = {"size": 32, "progress": False} | changes
    name, root = arguments.pop("name", "own"), arguments.pop("root", folder / "data")
    images, masks = arguments.pop("images", folder / "images"), arguments.pop("masks", folder / "masks")
    return prepare_folder(name, root, images, masks, **arguments)


def split_sizes(data: PreparedData) -> list[int]:
    """How many images train, validate and test."""
    return [len(data.indices(split)) for split in ("train", "val", "test")]
