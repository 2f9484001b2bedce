"""What can be set when a data set is prepared: one type for each way, with the fields that it takes.

The command line reads its subcommands from these types; the public functions make them of their arguments.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dermdistill.config.settings import Settings
from dermdistill.core.errors import UsageError
from dermdistill.data.download.catalog import PHANTOM, SOURCES

Seed = Annotated[int, Field(description="Seed of the validation split.")]
ValFraction = Annotated[
    float, Field(description="Share of the training images to validate on, where no split says.")
]
AllowEmpty = Annotated[bool, Field(description="Accept masks without a lesion.")]
Exclude = Annotated[
    Path | None,
    Field(description="audit.csv (or a CSV with a column image_id): leave these training images out."),
]


class PrepareSettings(Settings):
    """What every way to prepare a data set takes."""

    kind: ClassVar[str] = ""
    """Name of the subcommand of ``dermdistill prepare``."""

    name: str | None = None
    """Name of the prepared set, by which recipes find it (default: the catalogue's name; for images of one's
    own, that of their folder)."""
    root: Path = Path("data")
    """Folder that holds prepared data sets."""
    size: int = 256
    """Side in pixels of the packed squares (32 to 2048)."""

    @property
    def default_name(self) -> str:
        """Name of the data set where none is given."""
        return self.kind

    @property
    def dataset_name(self) -> str:
        """Name of the data set."""
        return self.default_name if self.name is None else self.name

    @property
    def folder(self) -> Path:
        """Folder of the data set."""
        return self.root / self.dataset_name

    def command_line(self) -> str:
        """The command that prepares the same set, without root and size."""
        words = ["dermdistill", "prepare", self.kind]
        for key, field in type(self).model_fields.items():
            value = getattr(self, key)
            if key in ("root", "size") or value == field.default:
                continue
            flag = key.replace("_", "-")
            match value:
                case bool():
                    words.append(f"--{flag}" if value else f"--no-{flag}")
                case Path():
                    words += [f"--{flag}", str(value.resolve())]
                case _:
                    words += [f"--{flag}", str(value)]
        return shlex.join(words)


class PhantomSettings(PrepareSettings):
    """Generated lesions, for trying out and for tests: scores on them are no evidence."""

    kind: ClassVar[str] = PHANTOM

    count: int = 240
    """Number of images, at least 3; the last fifth is for testing."""
    seed: Annotated[int, Field(description="Seed of the pictures and of the validation split.")] = 0
    val_fraction: ValFraction = 0.15


class CatalogueSettings(PrepareSettings):
    """A data set of the catalogue, downloaded and checked, with its official splits."""

    archives: Path | None = None
    """Take the archives from this folder; nothing is downloaded."""
    verify: bool = True
    """Check the archives' lengths and checksums."""
    discard_archives: bool = False
    """Remove the downloads afterwards; the unpacked files stay."""
    allow_empty: AllowEmpty = False
    exclude: Exclude = None


class Isic2016Settings(CatalogueSettings):
    """ISIC 2016: 900 training and 379 test images, downloaded and checked."""

    kind: ClassVar[str] = "isic2016"

    part: Literal["1", "3b"] = "1"
    """1 (segmentation) or 3b (with diagnosis)."""
    seed: Seed = 0
    val_fraction: ValFraction = 0.15

    @property
    def default_name(self) -> str:
        """Name of the data set where none is given; each part has its own."""
        return "isic2016-3b" if self.part == "3b" else self.kind


class Isic2017Settings(CatalogueSettings):
    """ISIC 2017: 2000 training, 150 validation and 600 test images, downloaded and checked."""

    kind: ClassVar[str] = "isic2017"


class Isic2018Settings(CatalogueSettings):
    """ISIC 2018: 2594 training, 100 validation and 1000 test images, downloaded and checked."""

    kind: ClassVar[str] = "isic2018"


class Ph2Settings(PrepareSettings):
    """PH2: 200 test images, of an archive that you fetch and unpack (it is a RAR file)."""

    kind: ClassVar[str] = "ph2"

    archives: Path | None = None
    """Folder where you unpacked it."""
    allow_empty: AllowEmpty = False


class FolderSettings(PrepareSettings):
    """Images and masks of your own, perhaps with a table; they stay where they are."""

    kind: ClassVar[str] = "own"

    images: Path
    """Folder of images (JPEG, PNG, BMP, TIFF, WebP, GIF), searched to any depth."""
    masks: Path
    """Folder of their masks, matched by name (_Segmentation, _segmentation, _mask, _lesion or nothing after
    it); may be the same one. For images without masks: dermdistill prepare unlabelled."""
    test_images: Path | None = None
    """Folder of test images, kept apart."""
    test_masks: Path | None = None
    """Folder of their masks."""
    manifest: Path | None = None
    """CSV with image_id and any of split, diagnosis, annotator, style, group (else patient_id or lesion_id:
    one patient's images stay in one split)."""
    split_column: str | None = None
    """Column of the manifest that gives the split: train, val or test, rows where it is empty are left out
    (default: split, else the only one that ends in _split)."""
    diagnosis_column: str | None = None
    """Column of the manifest that gives the diagnosis (default: diagnosis or dx, else the one that goes with
    the split's, isic2016_split and isic2016_diagnosis for example)."""
    annotator_column: str | None = None
    """Column of the manifest that says who drew the mask (default: annotator)."""
    style_column: str | None = None
    """Column of the manifest that says how it was drawn, by a tool's or a habit's name (default: style)."""
    seed: Seed = 0
    val_fraction: ValFraction = 0.15
    allow_empty: AllowEmpty = False
    exclude: Exclude = None

    @property
    def default_name(self) -> str:
        """Name of the data set where none is given: that of the folder of images."""
        return self.images.resolve().name


class UnlabelledSettings(PrepareSettings):
    """Images of your own without masks, to learn from beside others (data.unlabelled of distill)."""

    kind: ClassVar[str] = "unlabelled"

    images: Path
    """Folder of images (JPEG, PNG, BMP, TIFF, WebP, GIF), searched to any depth."""
    exclude: Exclude = None

    @property
    def default_name(self) -> str:
        """Name of the data set where none is given: that of the folder of images."""
        return self.images.resolve().name


KINDS: dict[str, type[PrepareSettings]] = {
    kind.kind: kind
    for kind in (
        PhantomSettings, Isic2016Settings, Isic2017Settings, Isic2018Settings, Ph2Settings, FolderSettings,
        UnlabelledSettings,
    )
}  # fmt: skip
"""The subcommands of ``dermdistill prepare``."""


def check(settings: PrepareSettings) -> None:
    """Refuse settings with which nothing can be prepared.

    Args:
        settings: Of any kind.

    Raises:
        UsageError: The name cannot be a folder's or is another data set's, or a number is out of range.
    """
    name = settings.dataset_name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} is not a name for a data set.",
            "letters, digits, dot, dash and underscore",
            "Choose --name.",
        )
    own = isinstance(settings, FolderSettings | UnlabelledSettings) or name != settings.default_name
    if own and (name in SOURCES or name == PHANTOM):
        # A recipe that names it expects that data set.
        raise UsageError(
            f"{name} is a name of the catalogue.", "a name of your own", "Choose another --name."
        )
    if not 1 <= settings.size <= 8192:
        raise UsageError(
            f"The size is {settings.size}.", "1 to 8192 pixels", "Set --size to a side within that range."
        )
    val_fraction = getattr(settings, "val_fraction", 0.15)
    if not 0.0 < val_fraction < 1.0:
        raise UsageError(
            f"The validation fraction is {val_fraction}.",
            "more than 0 and less than 1",
            "Set --val-fraction to a share such as 0.15.",
        )
    if isinstance(settings, PhantomSettings) and settings.count < 3:
        raise UsageError(
            f"The number of phantoms is {settings.count}.",
            "at least 3: one to train, validate and test on",
            "Set --count to 3 or more.",
        )
