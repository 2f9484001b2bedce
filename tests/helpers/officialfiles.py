"""Tiny archives in the layout of the official ones, for the tests of prepare."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from dermdistill.data.download.catalog import SOURCES
from smallfiles import image_bytes, mask_bytes, zip_bytes


def _zipped(name: str, files: dict[str, bytes]) -> bytes:
    """An official zip holds one folder of its own name."""
    return zip_bytes({f"{name.removesuffix('.zip')}/{file}": content for file, content in files.items()})


def official_archives(source: str) -> dict[str, bytes]:
    """Tiny archives in the official layout: 6 training images, 2 of every other split."""
    found: dict[str, bytes] = {}
    first = {"train": 0, "val": 100, "test": 200}
    for file in SOURCES[source].files:
        numbers = range(first[file.split], first[file.split] + (6 if file.split == "train" else 2))
        images = {f"ISIC_{n:07d}.jpg": image_bytes(seed=n) for n in numbers}
        ending = "_Segmentation.png" if source.startswith("isic2016") else "_segmentation.png"
        masks = {f"ISIC_{n:07d}{ending}": mask_bytes(seed=n) for n in numbers}
        if source == "isic2017":
            images |= {f"ISIC_{n:07d}_superpixels.png": image_bytes(".png") for n in numbers}
            images["ISIC-2017_Training_Data_metadata.csv"] = b"image_id,age,sex\n"
        words = ("benign", "malignant") if file.split == "train" else ("0.0", "1.0")
        match file.content:
            case "images":
                found[file.file] = _zipped(file.file, images)
            case "masks":
                found[file.file] = _zipped(file.file, masks)
            case "both":
                found[file.file] = _zipped(file.file, images | masks)
            case "labels":
                found[file.file] = "".join(f"ISIC_{n:07d},{words[n % 2]}\n" for n in numbers).encode()
    return found


def expect_archives(monkeypatch: pytest.MonkeyPatch, source: str, archives: dict[str, bytes]) -> None:
    """Make the catalogue expect these archives, so that they pass the check."""
    files = tuple(
        dataclasses.replace(
            file,
            md5=hashlib.md5(archives[file.file]).hexdigest(),
            sha256=None,
            bytes=len(archives[file.file]),
        )
        for file in SOURCES[source].files
    )
    monkeypatch.setitem(SOURCES, source, dataclasses.replace(SOURCES[source], files=files))
