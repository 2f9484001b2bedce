"""Pictures of the pairs, side by side: an audit is believed when it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from dermdistill.audit.entries import Entry
from dermdistill.audit.features import SIDE, opencv
from dermdistill.audit.official import SPLIT_TITLES
from dermdistill.audit.pairs import Pair
from dermdistill.audit.report import describe
from dermdistill.core.files import atomic_path
from dermdistill.imaging import UInt8Array

ROWS, COLUMNS = 4, 2
_GAP, _CAPTION, _MARGIN = 8, 66, 24
_LEAK, _INK, _PALE = (176, 0, 32), (32, 32, 32), (110, 110, 110)


def write_gallery(pairs: Sequence[Pair], folder: Path, pages: int, *, progress: bool = True) -> list[Path]:
    """Draw the first pairs, eight to a page: ``pairs.png``, ``pairs-2.png`` …

    Each row shows both images and, where features agree, the second laid onto the first: hairs and pigment
    must then be where they are in the first. Older pages are removed.
    """
    for old in [folder / "pairs.png", *folder.glob("pairs-*.png")]:
        old.unlink(missing_ok=True)
    each = ROWS * COLUMNS
    written = []
    starts = range(0, min(len(pairs), pages * each), each)
    for number, start in enumerate(tqdm(starts, desc="pages", disable=not progress, leave=False), start=1):
        path = folder / ("pairs.png" if number == 1 else f"pairs-{number}.png")
        with atomic_path(path) as temporary:
            draw_page(pairs[start : start + each]).save(temporary, "PNG")
        written.append(path)
    return written


def draw_page(pairs: Sequence[Pair]) -> Image.Image:
    """One page with the given pairs, two in a row."""
    width = 3 * SIDE + 2 * _GAP
    height = SIDE + _CAPTION
    rows = -(-len(pairs) // COLUMNS)
    columns = min(COLUMNS, len(pairs))
    page = Image.new(
        "RGB", (columns * (width + _MARGIN) + _MARGIN, rows * (height + _MARGIN) + _MARGIN), "white"
    )
    draw = ImageDraw.Draw(page)
    font, small = ImageFont.load_default(17), ImageFont.load_default(15)
    for k, pair in enumerate(pairs):
        x = _MARGIN + (k % COLUMNS) * (width + _MARGIN)
        y = _MARGIN + (k // COLUMNS) * (height + _MARGIN)
        color = _LEAK if pair.crosses else _INK
        draw.text((x, y), f"{'LEAK: ' if pair.crosses else ''}{describe(pair)}", color, small)
        for i, entry in enumerate((pair.a, pair.b)):
            left = x + i * (SIDE + _GAP)
            draw.text((left, y + 21), _fitted(entry.image_id, draw, font), _INK, font)
            subset = f"{entry.set_name}, {SPLIT_TITLES[entry.split]}"
            draw.text((left, y + 43), _fitted(subset, draw, small), _PALE, small)
            page.paste(_picture(entry), (left, y + _CAPTION))
        if (aligned := _aligned(pair)) is not None:
            left = x + 2 * (SIDE + _GAP)
            draw.text((left, y + 43), "the second laid onto the first", _PALE, small)
            page.paste(Image.fromarray(aligned), (left, y + _CAPTION))
    return page


def _picture(entry: Entry) -> Image.Image:
    return Image.fromarray(entry.square())


def _aligned(pair: Pair) -> UInt8Array | None:
    """``b`` warped to where ``a`` has it, both squashed: uint8 [256, 256, 3]; None without a match."""
    if pair.match is None or pair.match.transform is None:
        return None
    cv2 = opencv()
    onto = np.vstack([pair.match.transform, [0, 0, 1]])
    first, second = (pair.b, pair.a) if pair.swapped else (pair.a, pair.b)
    if pair.mirrored:
        width = _working(first)[0]
        onto = onto @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    # From the squashed first image to its working image, to the second's, to the squashed second image.
    onto = np.linalg.inv(_squash(second)) @ onto @ _squash(first)
    if pair.swapped:
        onto = np.linalg.inv(onto)
    warped: UInt8Array = cv2.warpAffine(
        pair.b.square(), onto[:2], (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderValue=(235, 235, 235),
    )  # fmt: skip
    return warped


def _working(entry: Entry) -> tuple[float, float]:
    aspect = min(max(entry.proportion(), 0.25), 4.0)
    return (SIDE, SIDE / aspect) if aspect >= 1 else (SIDE * aspect, SIDE)


def _squash(entry: Entry) -> np.ndarray:
    """From squashed to working pixels, 3 × 3."""
    width, height = _working(entry)
    return np.diag([width / SIDE, height / SIDE, 1.0])


def _fitted(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its middle left out where it is wider than a picture."""
    if draw.textlength(text, font) <= SIDE:
        return text
    keep = len(text)
    while keep > 4 and draw.textlength(f"{text[: keep // 2]}…{text[-keep // 2 :]}", font) > SIDE:
        keep -= 1
    return f"{text[: keep // 2]}…{text[-keep // 2 :]}"
