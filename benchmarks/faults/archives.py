"""Zip archives as ``prepare isic2016 --archives`` reads them: escapes, bombs, links, damage."""

from __future__ import annotations

import io
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.faults.material import Material
from benchmarks.faults.trial import START, Ended, Trial

PARTS = ("Training_Data", "Training_GroundTruth", "Test_Data", "Test_GroundTruth")
ESCAPED = "escaped-from-archive"
Members = dict[str, bytes]
Rng = np.random.Generator


def _zip(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return stream.getvalue()


def _with(name: str, content: bytes = b"x", mode: int = 0) -> Callable[[Rng, Members], bytes]:
    """An archive with one member more."""

    def make(rng: Rng, members: Members) -> bytes:
        warnings.filterwarnings("ignore", "Duplicate name")
        stream = io.BytesIO(_zip(members))
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(stream, "a") as bundle:
            bundle.writestr(info, content, zipfile.ZIP_DEFLATED)
        return stream.getvalue()

    return make


def _cut(rng: Rng, members: Members) -> bytes:
    content = _zip(members)
    return content[: int(len(content) * rng.uniform(0.02, 0.98))]


def _flip(rng: Rng, members: Members) -> bytes:
    content = bytearray(_zip(members))
    for at in rng.integers(0, len(content), 30):
        content[at] ^= 255
    return bytes(content)


def _flip_directory(rng: Rng, members: Members) -> bytes:
    content = bytearray(_zip(members))
    for at in rng.integers(len(content) - 300, len(content), 4):
        content[at] = int(rng.integers(0, 256))
    return bytes(content)


def _encrypted(rng: Rng, members: Members) -> bytes:
    content = bytearray(_zip(members))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(magic)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(magic, at + 4)
    return bytes(content)


def _lying_size(rng: Rng, members: Members) -> bytes:
    """Sizes of the directory that its members do not have."""
    content = bytearray(_zip(members))
    at = content.find(b"PK\x01\x02")
    content[at + 24 : at + 28] = int(rng.choice([1, 2**31, 2**32 - 2])).to_bytes(4, "little")
    return bytes(content)


def _twice(rng: Rng, members: Members) -> bytes:
    first = next(iter(members))
    return _with(first, members[first][: len(members[first]) // 2])(rng, members)


FAULTS: dict[str, Callable[[Rng, Members], bytes]] = {
    "path up": _with(f"../../../../{ESCAPED}"),
    "path up inside": _with(f"images/../../../../../{ESCAPED}"),
    "absolute path": _with(f"/tmp/{ESCAPED}"),
    "backslashes": _with(f"..\\..\\..\\{ESCAPED}"),
    "drive": _with(f"C:{ESCAPED}"),
    "link out": _with("link.jpg", b"/etc/hostname", stat.S_IFLNK | 0o777),
    "link to a folder": _with("images", b"/tmp", stat.S_IFLNK | 0o777),
    "FIFO": _with("fifo.jpg", b"", stat.S_IFIFO | 0o666),
    "bomb": _with("bomb.jpg", bytes(150_000_000)),
    "many small bombs": lambda rng, m: _zip(m | {f"{i}.png": bytes(1_000_000) for i in range(150)}),
    "bomb inside": lambda rng, m: _zip(m | {"inner.zip": _zip({"b": bytes(50_000_000)})}),
    "cut": _cut,
    "cut again": _cut,
    "flipped": _flip,
    "flipped again": _flip,
    "flipped directory": _flip_directory,
    "encrypted": _encrypted,
    "lying size": _lying_size,
    "lying size again": _lying_size,
    "two of one name": _twice,
    "empty file": lambda rng, m: b"",
    "no members": lambda rng, m: _zip({}),
    "web page": lambda rng, m: b"<html>404</html>",
    "bzip2": lambda rng, m: _zip(m, zipfile.ZIP_BZIP2),
    "250 signs and a newline": _with("a" * 200 + "\n" + "b" * 50 + ".jpg"),
    "file and folder of one name": _with("ISIC_0000000.jpg/inner.jpg"),
}


def bad_archives(material: Material, work: Path, rng: Rng, count: int) -> Iterator[Trial]:
    """One archive of four is bad: it is refused (or read), nothing escapes, and a good one mends it."""
    good = work / "good"
    contents = {part: _members(material, part) for part in PARTS}
    good.mkdir(parents=True)
    for part, members in contents.items():
        (good / _file(part)).write_bytes(_zip(members))
    names = list(FAULTS)
    for number in range(count):
        name = names[number % len(names)]
        part = PARTS[rng.integers(4)]
        folder = work / f"{number}"
        shutil.copytree(good, folder / "archives")
        (folder / "archives" / _file(part)).write_bytes(FAULTS[name](rng, contents[part]))
        done = _prepare(material, folder, folder / "archives")
        lost = [*done.problems(), *_escaped(folder)]
        again = _prepare(material, folder, good)
        if again.code and "was prepared with" not in again.err:
            lost.append(f"blocked: {again.err.strip()[:200]}")
        yield Trial("archives", f"{name} ({part})", tuple(lost))


def _prepare(material: Material, folder: Path, archives: Path) -> Ended:
    words = ("prepare", "isic2016", "--archives", archives, "--no-verify", "--root", folder / "a/b/c/data")
    return material.product.run(*words, "--size", 32, cwd=folder, patience=START)


def _file(part: str) -> str:
    return f"ISBI2016_ISIC_Part1_{part}.zip"


def _members(material: Material, part: str) -> Members:
    chosen = range(8) if part.startswith("Training") else range(8, 12)
    if part.endswith("_Data"):
        return {f"ISIC_{i:07d}.jpg": material.images[i].read_bytes() for i in chosen}
    return {f"ISIC_{i:07d}_Segmentation.png": material.masks[i].read_bytes() for i in chosen}


def _escaped(folder: Path) -> list[str]:
    outside = [path for path in folder.rglob(f"*{ESCAPED}*") if "raw" not in path.parts]
    far = Path("/tmp") / ESCAPED
    if far.exists():
        far.unlink()
        outside.append(far)
    return [f"written outside: {path}" for path in outside]
