"""Damaged pictures, odd names, links and special files: in folders given to ``predict`` and ``prepare``."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.material import Material
from benchmarks.faults.trial import START, Ended, Trial, broken_files
from PIL import Image

GOOD = 6
"""Good pictures in each folder of damaged ones."""
Rng = np.random.Generator
Damage = Callable[[Rng, bytes], tuple[bytes, str]]
"""A seeded damage of a good JPEG: the bytes, and the suffix of their name."""


def _saved(image: Image.Image, form: str, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def _small(content: bytes, mode: str = "RGB") -> Image.Image:
    return Image.open(io.BytesIO(content)).convert(mode).resize((96, 72))


def _png_of(width: int, height: int, rows: int) -> bytes:
    """A PNG whose header names a size that its data need not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    line = zlib.compress((b"\0" + bytes(3 * min(width, 4096))) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", line) + chunk(b"IEND", b"")


def _truncated(rng: Rng, good: bytes) -> tuple[bytes, str]:
    form = str(rng.choice(["JPEG", "PNG", "BMP", "TIFF"]))
    content = good if form == "JPEG" else _saved(_small(good), form)
    return content[: int(len(content) * rng.uniform(0.01, 0.9))], f".{form[:4].lower()}"


def _flipped(rng: Rng, good: bytes) -> tuple[bytes, str]:
    form = str(rng.choice(["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"]))
    content = bytearray(good if form == "JPEG" else _saved(_small(good), form))
    for at in rng.integers(0, len(content), int(rng.integers(1, 40))):
        content[at] ^= int(rng.integers(1, 256))
    return bytes(content), f".{form.lower()}"


def _flipped_head(rng: Rng, good: bytes) -> tuple[bytes, str]:
    form = str(rng.choice(["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP"]))
    content = bytearray(good if form == "JPEG" else _saved(_small(good), form))
    for at in rng.integers(0, 64, int(rng.integers(1, 6))):
        content[at] = int(rng.integers(0, 256))
    return bytes(content), f".{form.lower()}"


def _zeroed(rng: Rng, good: bytes) -> tuple[bytes, str]:
    content = bytearray(good)
    at, size = int(rng.integers(0, len(good))), int(rng.integers(16, 4096))
    content[at : at + size] = bytes(len(content[at : at + size]))
    return bytes(content), ".jpg"


def _wrong_suffix(rng: Rng, good: bytes) -> tuple[bytes, str]:
    form = str(rng.choice(["PNG", "TIFF", "BMP", "PDF", "PPM"]))
    return _saved(_small(good), form), str(rng.choice([".jpg", ".jpeg", ".JPG", ".png", ".tif"]))


def _no_picture(rng: Rng, good: bytes) -> tuple[bytes, str]:
    contents = (b"", b"\xff\xd8", b"<html>404</html>", rng.bytes(500), b"version https://git-lfs.github.com")
    return contents[rng.integers(len(contents))], str(rng.choice([".jpg", ".png", ".tif", ".webp", ".bmp"]))


def _huge_header(rng: Rng, good: bytes) -> tuple[bytes, str]:
    sides = ((70_000, 10), (1, 50_000_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (14_000, 14_000))
    width, height = sides[rng.integers(len(sides))]
    return _png_of(width, height, 3), ".png"


def _odd_mode(rng: Rng, good: bytes) -> tuple[bytes, str]:
    mode, form = (("1", "PNG"), ("L", "JPEG"), ("LA", "PNG"), ("CMYK", "JPEG"), ("F", "TIFF"), ("I", "TIFF"),
                  ("YCbCr", "JPEG"), ("LAB", "TIFF"), ("RGBA", "PNG"))[rng.integers(9)]  # fmt: skip
    return _saved(_small(good).convert("L" if mode in ("F", "I") else "RGB").convert(mode)
                  if mode != "LAB" else Image.new("LAB", (96, 72)), form), f".{form.lower()}"  # fmt: skip


def _sixteen_bit(rng: Rng, good: bytes) -> tuple[bytes, str]:
    values = np.asarray(_small(good, "L"), np.uint16) * 257
    return _saved(Image.fromarray(values), "PNG"), ".png"


def _palette(rng: Rng, good: bytes) -> tuple[bytes, str]:
    form = str(rng.choice(["PNG", "GIF", "BMP"]))
    return _saved(_small(good).quantize(int(rng.integers(2, 256))), form), f".{form.lower()}"


def _exif_garbage(rng: Rng, good: bytes) -> tuple[bytes, str]:
    body = b"Exif\0\0" + (b"II*\0" if rng.random() < 0.5 else b"") + rng.bytes(int(rng.integers(2, 300)))
    return good[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + good[2:], ".jpg"


def _tiny(rng: Rng, good: bytes) -> tuple[bytes, str]:
    sides = ((1, 1), (1, 400), (400, 1), (2, 3))
    return _saved(_small(good).resize(sides[rng.integers(4)]), "PNG"), ".png"


DAMAGES: dict[str, Damage] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "flipped head": _flipped_head,
    "zeroed": _zeroed,
    "wrong suffix": _wrong_suffix,
    "no picture": _no_picture,
    "huge header": _huge_header,
    "odd mode": _odd_mode,
    "sixteen bit": _sixteen_bit,
    "palette": _palette,
    "exif garbage": _exif_garbage,
    "tiny": _tiny,
}
KINDS = list(DAMAGES)


def predict_folders(material: Material, work: Path, rng: Rng, count: int, size: int = 190) -> Iterator[Trial]:
    """Folders of damaged pictures with good ones between them, each given to one ``predict``."""
    for number, start in enumerate(range(0, count, size)):
        folder = work / f"pictures-{number}"
        folder.mkdir(parents=True)
        damaged = {}
        for index in range(start, min(start + size, count)):
            name = KINDS[index % len(KINDS)]
            content, suffix = DAMAGES[name](rng, material.images[index % 12].read_bytes())
            path = folder / f"d{index:05d}{suffix}"
            path.write_bytes(content)
            damaged[path] = name
        good = [Path(shutil.copy(path, folder / f"g{path.name}")) for path in material.images[:GOOD]]
        done = _predict(material, folder, work / f"predicted-{number}")
        yield from judge_predictions("pictures, predict", done, work / f"predicted-{number}", damaged, good)


def _predict(material: Material, folder: Path, out: Path) -> Ended:
    return material.product.run(
        "predict", folder, "--out", out, "--threads", 1, cwd=out.with_name(f"{out.name}-cwd")
    )


def judge_predictions(
    kind: str, done: Ended, out: Path, tried: dict[Path, str], good: list[Path]
) -> Iterator[Trial]:
    """Each file has a result or a line of its own; a run that ends badly loses those that have neither.

    Files are told apart by the first six signs of their names, since the others may be shown escaped.
    """
    lines = {}
    for text in done.out.splitlines():
        if text.startswith("{"):
            line = json.loads(text)
            lines[Path(line["path"]).name[:6]] = line
    wrong = [*done.problems(), *broken_files(out)]
    for path, damage in tried.items():
        key = path.name[:6]
        lost = [] if key in lines or key in done.err else ["neither result nor line"]
        if damage == "truncated" and key in lines:
            lost.append("a part was taken for the whole")
        if lost:
            lost += wrong[:2]
        yield Trial(kind, f"{damage} {key}", tuple(lost))
    absent = [path.name for path in good if path.name[:6] not in lines and path.name not in done.out]
    if wrong or absent:
        yield Trial(kind, "the run", (*wrong, *(f"no result of the good {name}" for name in absent)))


def prepare_folders(material: Material, work: Path, rng: Rng, count: int, size: int = 100) -> Iterator[Trial]:
    """Folders of pairs, image or mask damaged: ``prepare`` names the bad ones; without them it finishes."""
    for number, start in enumerate(range(0, count, size)):
        images, masks = work / f"own-{number}" / "images", work / f"own-{number}" / "masks"
        images.mkdir(parents=True)
        masks.mkdir()
        damages = {}
        for index in range(start, min(start + size, count)):
            name = KINDS[index % len(KINDS)]
            damage = DAMAGES[name]
            image, mask = material.images[index % 12].read_bytes(), material.masks[index % 12].read_bytes()
            image_suffix, mask_suffix = ".jpg", ".png"
            if index % 2:
                image, image_suffix = damage(rng, image)
            else:
                mask, mask_suffix = damage(rng, mask)
            (images / f"d{index:05d}{image_suffix}").write_bytes(image)
            (masks / f"d{index:05d}{mask_suffix}").write_bytes(mask)
            damages[f"d{index:05d}"] = name
        for path, mask_path in zip(material.images[:GOOD], material.masks[:GOOD], strict=True):
            shutil.copy(path, images)
            shutil.copy(mask_path, masks / f"{path.stem}.png")
        yield from _prepare_until_good(material, images, masks, damages, f"own-{number}")


def _prepare_until_good(
    material: Material, images: Path, masks: Path, damages: dict[str, str], name: str
) -> Iterator[Trial]:
    """As a user does: remove what was named, and run the command again."""
    left, wrong = dict(damages), []
    root = images.parent / "data"
    for _ in range(6):
        done = material.product.run(
            *("prepare", "--images", images, "--masks", masks, "--name", name, "--root", root),
            *("--size", 48, "--allow-empty"),
            cwd=images.parent, patience=START,
        )  # fmt: skip
        wrong += done.problems()
        more = root / name / "problems.txt"
        told = done.err + (more.read_text(encoding="utf-8") if more.is_file() else "")
        named = [key for key in left if key in told]
        if not done.code or not named:
            break
        for key in named:
            del left[key]
            for path in [*images.glob(f"{key}*"), *masks.glob(f"{key}*")]:
                path.unlink()
    manifest = root / name / "manifest.csv"
    used = manifest.read_text(encoding="utf-8") if not done.code and manifest.is_file() else ""
    for key, damage in damages.items():
        lost = [] if key not in left or key in used else ["neither used nor named"]
        yield Trial("pairs, prepare", f"{damage} {key}", tuple(lost))
    if wrong or done.code:
        yield Trial(
            "pairs, prepare", "the run", (*wrong, f"exit code {done.code}") if done.code else (*wrong,)
        )


NAMES: tuple[bytes, ...] = (
    b"\xff\xfe%s", b"%s\nline", b"%s\x1b[31mred", b"=%s()", b"-%s", b"%s" + b"x" * 240, b"%s caf\xc3\xa9",
    b"%s cafe\xcc\x81", b"%s\ttab", b"%s'quote\"", b"%s;rm -rf", b"%s%%s{0}", b"%s[1]", b"%s*", b"%s\r",
    b"%s " + "病変".encode(), b"%s.tar", b"%s..", b" %s ", b"%s\\back", b"%s\xed\xa0\x80", b"@%s", b"~%s",
    b"%s#?",
)  # fmt: skip
"""Patterns of names; the part in their middle tells them apart."""


def odd_names(material: Material, work: Path, rng: Rng, count: int) -> Iterator[Trial]:
    """Good pictures under odd names, links and special files beside them, for one ``predict``."""
    folder, kind = work / "names", "names, links, special files"
    folder.mkdir(parents=True)
    tried: dict[str, str] = {}
    for index in range(count):
        key = f"n{index:04d}_"
        name = (
            os.fsencode(folder) + b"/" + NAMES[index % len(NAMES)].replace(b"%s", key.encode(), 1) + b".jpg"
        )
        shutil.copy(material.images[index % 12], name)
        tried[key] = repr(NAMES[index % len(NAMES)])
    for key, what in _special_files(folder, material):
        tried[key] = what
    done = _predict(material, folder, work / "named")
    silent = [key for key in tried if key not in done.out and key not in done.err]
    counted = sum(int(count) for line in re.findall("passed over: (.*)", done.err) for count in _counts(line))
    for key, what in tried.items():
        lost = ["neither result, line nor count"] if key in silent[counted:] else []
        yield Trial(kind, f"{what} {key}", tuple(lost))
    if wrong := [*done.problems(), *broken_files(work / "named")]:
        yield Trial(kind, "the run", tuple(wrong))


def _counts(line: str) -> list[str]:
    return re.findall(r"\b(\d+) [a-z]", line)


def _special_files(folder: Path, material: Material) -> Iterator[tuple[str, str]]:
    os.mkfifo(folder / "s0000_.jpg")
    yield "s0000_", "FIFO"
    (folder / "s0001_.jpg").symlink_to("nowhere.jpg")
    yield "s0001_", "dangling link"
    (folder / "s0002_.jpg").symlink_to("s0002_.jpg")
    yield "s0002_", "looping link"
    (folder / "s0003_.jpg").mkdir()
    shutil.copy(material.images[0], folder / "s0003_.jpg" / "s0003_.png")
    yield "s0003_", "folder with a picture's name"
    shutil.copy(material.images[1], folder / "s0004_.jpg")
    (folder / "s0004_.jpg").chmod(0)
    yield "s0004_", "unreadable file"
    (folder / "s0005_.jpg").symlink_to("/dev/zero")
    yield "s0005_", "link to a device"
    (folder / "s0006_.jpg").symlink_to(material.images[2])
    yield "s0006_", "good link"
