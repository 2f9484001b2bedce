"""The catalogue: which public data sets can be prepared by name, and which files each one is made of.

Names, sizes and checksums are those that independent public downloaders agree on. They may be out of date:
a difference is reported with both values, and ``--no-verify`` goes on all the same.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from dermdistill.core.errors import UsageError

Split = Literal["train", "val", "test"]

PHANTOM = "phantom"
"""Name of the generated data set (see :mod:`dermdistill.data.prepare.phantom`)."""

ISIC_BASES = (
    "https://isic-challenge-data.s3.amazonaws.com",
    "https://isic-archive.s3.amazonaws.com/challenges",
)
"""Addresses that serve ``<base>/<year>/<file>``, in the order in which they are tried."""


@dataclass(frozen=True)
class Checksum:
    """An expected digest."""

    algorithm: Literal["md5", "sha256"]
    value: str


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    ``content`` says what it holds: ``both`` is images and masks in one folder, ``labels`` a CSV without
    header (image id, diagnosis).
    """

    file: str
    year: str
    split: Split
    content: Literal["images", "masks", "both", "labels"]
    md5: str | None = None
    sha256: str | None = None
    bytes: int | None = None

    @property
    def stem(self) -> str:
        """The file's name without its suffix: the folder that it is unpacked to."""
        return self.file.rpartition(".")[0]

    @property
    def checksum(self) -> Checksum | None:
        """The strongest known digest."""
        if self.sha256:
            return Checksum("sha256", self.sha256)
        return Checksum("md5", self.md5) if self.md5 else None

    def urls(self, bases: tuple[str, ...]) -> list[str]:
        """Where to fetch it, best first."""
        return [f"{base.rstrip('/')}/{self.year}/{self.file}" for base in bases]


@dataclass(frozen=True)
class Source:
    """One data set of the catalogue. ``counts`` are the published numbers of pairs by split."""

    name: str
    title: str
    license: str
    files: tuple[RemoteFile, ...]
    counts: dict[Split, int]
    bases: tuple[str, ...] = ISIC_BASES
    page: str = "https://challenge.isic-archive.com/data/"


def _parts_2016() -> tuple[RemoteFile, ...]:
    name = "ISBI2016_ISIC_Part1_{}.zip"
    return (
        RemoteFile(
            name.format("Training_Data"), "2016", "train", "images", "2029f387e62dcc062b1370b1efc1f7fb"
        ),
        RemoteFile(
            name.format("Training_GroundTruth"), "2016", "train", "masks", "fbd77134298f3511479a37bac93109c7"
        ),
        RemoteFile(name.format("Test_Data"), "2016", "test", "images", "efebcaeaae751007401a40a60d391f93"),
        RemoteFile(
            name.format("Test_GroundTruth"), "2016", "test", "masks", "492a7711a2e19b96114cab6c96bd1ad5"
        ),
    )


def _parts_2016_3b() -> tuple[RemoteFile, ...]:
    name = "ISBI2016_ISIC_Part3B_{}"
    return (
        RemoteFile(name.format("Training_Data.zip"), "2016", "train", "both"),
        RemoteFile(name.format("Training_GroundTruth.csv"), "2016", "train", "labels"),
        RemoteFile(name.format("Test_Data.zip"), "2016", "test", "both"),
        RemoteFile(name.format("Test_GroundTruth.csv"), "2016", "test", "labels"),
    )


def _parts_2017() -> tuple[RemoteFile, ...]:
    known: tuple[tuple[str, Split, str, str], ...] = (
        ("Training", "train", "a14a7e622c67a358797ae59abb8a0b0c", "77fdbeb6fbec4139937224416b250f4c"),
        ("Validation", "val", "8d6419d942112f709894c0d82f6c9038", "64d3e68fa2deeb8a5e89aa8dec2efd44"),
        ("Test_v2", "test", "5f6a0b5e1f2972bd1f5ea02680489f09", "b1742de6bd257faca3b2b21a4aa3b781"),
    )
    return tuple(
        file
        for part, split, images, masks in known
        for file in (
            RemoteFile(f"ISIC-2017_{part}_Data.zip", "2017", split, "images", images),
            RemoteFile(f"ISIC-2017_{part}_Part1_GroundTruth.zip", "2017", split, "masks", masks),
        )
    )


def _parts_2018() -> tuple[RemoteFile, ...]:
    images, masks = "ISIC2018_Task1-2_{}_Input.zip", "ISIC2018_Task1_{}_GroundTruth.zip"
    return (
        RemoteFile(
            images.format("Training"),
            "2018",
            "train",
            "images",
            "8b5be801f37b58ccf533df2928a5906b",
            "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
        ),
        RemoteFile(
            masks.format("Training"),
            "2018",
            "train",
            "masks",
            "ee5e5db7771d48fa2613abc7cb5c24e2",
            "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
            27_402_895,
        ),
        RemoteFile(
            images.format("Validation"),
            "2018",
            "val",
            "images",
            "d8f15a08981c8d6c0646b5e3228ef20d",
            "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
            239_231_159,
        ),
        RemoteFile(
            masks.format("Validation"),
            "2018",
            "val",
            "masks",
            "2323d7ed9350de0a463d529ef45a62f4",
            "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
            759_706,
        ),
        RemoteFile(
            images.format("Test"),
            "2018",
            "test",
            "images",
            "0a9ba80e1aee58716fbfcdde7131c45a",
            "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
        ),
        RemoteFile(
            masks.format("Test"),
            "2018",
            "test",
            "masks",
            None,
            "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
        ),
    )


_ALL = (
    Source("isic2016", "ISIC 2016, Part 1", "CC-0", _parts_2016(), {"train": 900, "test": 379}),
    Source(
        "isic2016-3b",
        "ISIC 2016, Part 3B (with diagnosis)",
        "CC-0",
        _parts_2016_3b(),
        {"train": 900, "test": 379},
    ),
    Source("isic2017", "ISIC 2017, Part 1", "CC-0", _parts_2017(), {"train": 2000, "val": 150, "test": 600}),
    Source(
        "isic2018",
        "ISIC 2018, Task 1",
        "CC-BY-NC-4.0",
        _parts_2018(),
        {"train": 2594, "val": 100, "test": 1000},
    ),
    Source(
        "ph2",
        "PH2",
        "for research and education only; see its page",
        (),
        {"test": 200},
        (),
        "https://www.fc.up.pt/addi/ph2%20database.html",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""The catalogue by name."""

PH2_ARCHIVE = "https://www.dropbox.com/s/k88qukc20ljnbuo/PH2Dataset.rar?dl=1"
"""PH2 is a RAR archive, which the standard library cannot unpack: it is fetched and unpacked by hand."""


def find_source(name: str, part: str = "1") -> Source:
    """The catalogue's entry of that name; ``part`` is ``1`` (the usual one), or ``3b`` for isic2016.

    Raises:
        UsageError: No such data set or part; the nearest name is given.
    """
    known = sorted([*SOURCES, PHANTOM])
    if part.lower() == "3b" and name in ("isic2016", "isic2016-3b"):
        name = "isic2016-3b"
    elif part != "1":
        raise UsageError(
            f"There is no part {part!r} of {name}.",
            "isic2016 with --part 1 or --part 3b",
            "Leave --part out, or name isic2016.",
        )
    if name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Perhaps you meant {near[0]}; for" if near else "For"
    raise UsageError(
        f"There is no data set {name!r} in the catalogue.",
        f"one of {', '.join(known)}",
        f"{hint} images of your own: dermdistill prepare own --images DIR --masks DIR --name {name}",
    )
