"""Which image files a user means by a folder or by the paths on a command line: one rule for every verb.

Hidden files and folders, what systems and tools leave beside pictures (``__MACOSX``, ``@eaDir``, thumbnails,
checkpoints), links that lead nowhere and what is no file (a FIFO would hang the reader) are passed over:
never opened and never fatal. One line says so, with the picture formats that are not read. Of files without
an ending the first bytes are looked at: archives name DICOM so.
"""

from __future__ import annotations

import errno
import glob
import logging
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from dermdistill.core.errors import UsageError
from dermdistill.imaging.dicom import is_dicom

logger = logging.getLogger(__name__)

PLAIN_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Of the formats that every installation reads."""
_MORE = {
    "pi_heif": ("pip install 'dermdistill[heic]'", (".heic", ".heif")),
    "pydicom": ("pip install 'dermdistill[dicom]'", (".dcm", ".dicom")),
    "PIL._avif": ("pip install --upgrade pillow", (".avif",)),
}
"""By the module that reads them: what installs it, and the suffixes."""
SUFFIXES = (
    *PLAIN_SUFFIXES,
    *(suffix for module, (_, more) in _MORE.items() if find_spec(module) for suffix in more),
)
"""Of the formats that `imaging` reads as it is installed here."""
_INSTALL = {suffix: pip for pip, more in _MORE.values() for suffix in more if suffix not in SUFFIXES}
OTHER_FORMATS = (
    *(*_INSTALL, ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".eps", ".pdf"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".tga", ".ppm", ".pgm", ".exr", ".npy"),
)
"""Pictures all the same, which are counted when they are passed over."""
SKIPPED_FOLDERS = {
    *(
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    ),
    *("thumbnails", "thumbnail", "thumbs", "_thumbs", "checkpoints", "ipynb_checkpoints", "__pycache__"),
}
"""What systems, network disks and tools leave beside pictures; compared in small letters. Names that begin
with a dot are passed over anyway."""
SKIPPED_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "dicomdir"}
LINES = "predictions.jsonl"
"""What predictions are listed in; the mark of a folder of results."""


@dataclass(frozen=True)
class Listing:
    """The images of a folder, and what lay there beside them.

    Attributes:
        images: In natural order (photo2 before photo10), at any depth.
        harmless: How many were passed over that nobody misses, by what they are (``hidden``).
        missed: How many were passed over that somebody may miss, by what they are (``.heic``).
    """

    images: list[Path]
    harmless: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def to_text(self) -> str:
        """What was passed over, in one line; empty where nothing was."""
        return ", ".join(f"{count} {what}" for what, count in [*self.missed.items(), *self.harmless.items()])


def list_folder(folder: Path, suffixes: Collection[str] | None = None) -> Listing:
    """The images in a folder at any depth, by the rule of this module.

    Subfolders that hold ``predictions.jsonl`` are an earlier call's results, and are passed over too. What
    was passed over is logged as one line: a warning where somebody may miss it.

    Args:
        folder: It is listed whatever its own name.
        suffixes: Of the files that are meant, in small letters, where these are not images.

    Returns:
        The images, and what was passed over.
    """
    listing = Listing([])
    todo = [folder]
    while todo:
        here = todo.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            listing.missed["folder that cannot be read"] += 1
            continue
        for entry in entries:
            _sort_in(entry, listing, todo, suffixes or SUFFIXES)
    listing.images.sort(key=_natural)
    if text := listing.to_text():
        log = logger.warning if listing.missed else logger.info
        log("%s: passed over: %s.", printable(folder), text)
    return listing


def _sort_in(entry: os.DirEntry[str], listing: Listing, todo: list[Path], suffixes: Collection[str]) -> None:
    """Add an entry to the images, to the folders that are still to be listed, or to what is passed over."""
    path, name = Path(entry.path), entry.name
    suffix = path.suffix.lower()
    if name.startswith("."):
        listing.harmless["hidden"] += 1
    elif name.lower() in SKIPPED_FILES or name.lower() in SKIPPED_FOLDERS:
        listing.harmless[name if name.isascii() and name.isprintable() else "system file"] += 1
    elif problem := _problem(path):
        if suffix in suffixes or entry.is_symlink():
            listing.missed[problem] += 1
    elif not entry.is_dir(follow_symlinks=True):
        if _may_be_bare_dicom(suffix) and is_dicom(path):
            suffix = ".dcm"
        if suffix in suffixes:
            listing.images.append(path)
        elif suffix in OTHER_FORMATS and ".jpg" in suffixes:
            listing.missed[f"{suffix} ({_INSTALL.get(suffix, 'not read')})"] += 1
    elif entry.is_symlink():
        listing.missed["linked folder"] += 1
    elif (path / LINES).exists():
        listing.harmless["folder of results"] += 1
    else:
        todo.append(path)


def _may_be_bare_dicom(suffix: str) -> bool:
    """Archives name DICOM files IM000001, or by a UID."""
    return not suffix or suffix[1:].isdecimal()


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Image files named by files, folders (searched to any depth) and globs (``**`` too).

    Each file once, however often it is named; in the order given, those of a folder or glob in natural order.
    A folder is searched by `list_folder`. A file named by itself is taken whatever its suffix.

    Args:
        paths: Files, folders and globs; a name that is there is never read as a glob.

    Returns:
        The files, in order.

    Raises:
        UsageError: A path or glob names nothing.
    """
    files: dict[Path, Path] = {}
    for given in map(str, paths):
        path = Path(given)
        if path.is_dir():
            inside = list_folder(path).images
        elif _is_there(path):
            inside = [path] if _problem(path) is None else []
        else:
            inside = sorted(_matches(given), key=_natural)
        if not inside:
            raise UsageError(
                f"{printable(given)} names no image.",
                f"a file, a folder or a glob of {', '.join(SUFFIXES)} files",
                "Check the path; folders are searched to any depth.",
            )
        for each in inside:
            files.setdefault(each.resolve(), each)
    return list(files.values())


def printable(name: str | Path) -> str:
    """A name for a message: line breaks, escape codes and bytes that are no text are written as escapes."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode("ascii")
        for sign in str(name)
    )


def is_text(name: str | Path) -> bool:
    """Whether a name is UTF-8; others are read, and written as escapes, but no table can name them."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def name_key(name: str) -> str:
    """What two names have in common that differ only in case or in how their accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _problem(path: Path) -> str | None:
    """Why this is neither a file nor a folder that can be used, in words; nothing is opened."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "link in a circle" if error.errno == errno.ELOOP else "link to nowhere"
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "pipe or device"


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _matches(pattern: str) -> list[Path]:
    """The images that a glob names; a folder that is there is no pattern, brackets in its name or not."""
    parts = Path(pattern).parts
    literal = 0
    while literal < len(parts) and Path(*parts[: literal + 1]).is_dir():
        literal += 1
    escaped = Path(*(glob.escape(part) for part in parts[:literal]), *parts[literal:])
    return [
        path
        for path in map(Path, glob.glob(str(escaped), recursive=True))  # noqa: PTH207 (absolute ones too)
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and _problem(path) is None
        and not SKIPPED_FOLDERS & {part.lower() for part in path.parts[literal:-1]}
    ]


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """photo2 before photo10."""
    return [
        (0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", str(path))
    ]
