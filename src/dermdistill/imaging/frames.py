"""Frames of DICOM files as paths of their own: ``lesion.dcm#3`` is the third frame of ``lesion.dcm``."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from dermdistill.imaging.dicom import frames_of, has_picture, is_dicom, read_header
from dermdistill.imaging.find import PLAIN_SUFFIXES

logger = logging.getLogger(__name__)

_FRAME = re.compile(r"(.+)#([1-9]\d{0,8})")


def split_frame(path: Path) -> tuple[Path, int | None]:
    """Part the path of a frame.

    Args:
        path: Of a picture file, or of a frame in it.

    Returns:
        The file, and the frame's number from 1; None where the path names a file.

    Examples:
        >>> split_frame(Path("scans/lesion.dcm#3"))[1], split_frame(Path("lesion.dcm"))[1]
        (3, None)
    """
    parts = _FRAME.fullmatch(path.name)
    if parts is None or path.exists():
        return path, None
    return path.with_name(parts[1]), int(parts[2])


def result_name(path: Path) -> str:
    """What the names of a picture's results begin with: its own name, without the ending.

    Examples:
        >>> result_name(Path("scans/lesion.dcm#3")), result_name(Path("1.2.840.7"))
        ('lesion-frame3', '1.2.840.7')
    """
    file, frame = split_frame(path)
    stem = file.name if file.suffix[1:].isdecimal() else file.stem  # files named by their UID have no ending
    return stem if frame is None else f"{stem}-frame{frame}"


def list_frames(paths: Iterable[Path]) -> list[Path]:
    """Name each frame of DICOM files that have several; leave out those that hold no picture (reports, say).

    Args:
        paths: Picture files of any format.

    Returns:
        The same paths in their order, but ``lesion.dcm#1``, ``lesion.dcm#2`` … in place of ``lesion.dcm``.
        What was left out is logged as one line; where nothing else remains it stays, and reading it fails.
    """
    listed: list[Path] = []
    left_out: list[Path] = []
    for path in paths:
        if path.suffix.lower() in PLAIN_SUFFIXES or not is_dicom(path):
            listed.append(path)
            continue
        try:
            with path.open("rb") as stream:
                header = read_header(stream, path.name)
            frames = frames_of(header)
        except Exception:  # broken, or no extra to read it with: said when it is read
            listed.append(path)
            continue
        if not has_picture(header):
            left_out.append(path)
        elif frames == 1:
            listed.append(path)
        else:
            listed += [path.with_name(f"{path.name}#{number}") for number in range(1, frames + 1)]
    if left_out and listed:
        logger.warning("Passed over: %d DICOM without a picture (reports, segmentations).", len(left_out))
    return listed or left_out
