"""Pictures for the report: best, median and worst images, and where the arm differs most from the baseline.

Photographs come from the prepared pack (a memory map) and outlines from the masks that ``evaluate`` kept, so
no network is run. Each picture is a small WebP inside the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermdistill.core import numbers
from dermdistill.core.errors import DataError, DermDistillError
from dermdistill.data.dataset import PreparedData, open_dataset, read_info
from dermdistill.imaging import open_picture
from dermdistill.imaging.drawing import overlay
from dermdistill.report.model import Arm, Data, Report
from dermdistill.visualization.panels import STUDENT, TEACHER, TRUTH

BASELINE = (204, 121, 167)
"""Outline of the baseline: Okabe & Ito's reddish purple."""
PER_GROUP = 4
_SIDE = 300
_QUALITY = 78


@dataclass(frozen=True)
class Picture:
    """One image with outlines."""

    image_id: str
    caption: str
    uri: str
    """``data:image/webp;base64,…``"""


@dataclass(frozen=True)
class Gallery:
    """Groups of pictures under a title, the legend of their colours, and what could not be shown."""

    groups: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    """(name, CSS colour) of each outline."""
    missing: str = ""


@dataclass(frozen=True, eq=False)
class KeptMasks:
    """Predicted masks at the pack's size, as ``evaluate`` keeps them."""

    place: dict[str, int]
    packed: NDArray[np.uint8]
    size: int

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        """{0, 1} uint8 [size, size]."""
        return np.unpackbits(self.packed[self.place[image_id]], axis=-1, count=self.size)


def read_masks(path: Path) -> KeptMasks:
    """Read masks.npz: ``image_id`` str [n], ``mask`` bits packed along the last axis, ``size``.

    Raises:
        DataError: It is missing or of another layout.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            ids, packed, size = [str(v) for v in held["image_id"]], held["mask"], int(held["size"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as kept masks: {error}.",
            "masks.npz as dermdistill evaluate writes it",
            "Run dermdistill evaluate on this run again.",
        ) from None
    if packed.dtype != np.uint8 or packed.shape != (len(ids), size, -(-size // 8)):
        raise DataError(
            f"{path} holds {packed.dtype} {packed.shape}.",
            f"uint8 ({len(ids)}, {size}, {-(-size // 8)})",
            "Run dermdistill evaluate on this run again.",
        )
    return KeptMasks({name: place for place, name in enumerate(ids)}, packed, size)


def make_gallery(report: Report, evaluations: dict[str, Path]) -> Gallery:
    """Choose and draw; what is lacking is said in ``missing``.

    Args:
        report: For its arms and data.
        evaluations: By arm, the evaluation folder of its first seed.
    """
    shown = report.shown
    if shown is None or shown.per_image is None or shown.name not in evaluations:
        return Gallery(missing="no arm has been evaluated")
    try:
        prepared = _open(report.data)
        masks = {
            name: (read_masks(folder / "masks.npz"), colour)
            for name, folder, colour in _outlines(report, shown, evaluations)
        }
    except DermDistillError as error:
        return _whole_sheet(evaluations[shown.name], error.found)
    rows = {row.image_id: place for place, row in enumerate(prepared.manifest)}
    groups = []
    for title, ids in _choose(report, shown):
        pictures = [
            _picture(name, prepared, rows[name], masks, report, shown) for name in ids if name in rows
        ]
        if pictures:
            groups.append((title, tuple(pictures)))
    legend = [("truth", TRUTH), *((name, colour) for name, (_, colour) in masks.items())]
    return Gallery(tuple(groups), tuple((name, f"rgb{colour}") for name, colour in legend))


def _open(data: Data) -> PreparedData:
    """The largest pack there is: arms may have looked at different sizes."""
    if data.root is None:
        raise DataError(
            "The settings do not say where the prepared data lie.",
            "data.root in config.yaml",
            "Put back the config.yaml that the run was made with.",
        )
    sizes = [int(size) for size in read_info(data.root / data.name)["packs"]]
    return open_dataset(data.name, data.root, max(sizes))


def _outlines(
    report: Report, shown: Arm, evaluations: dict[str, Path]
) -> list[tuple[str, Path, tuple[int, int, int]]]:
    """Whose masks are drawn: teacher, baseline, the arm itself (uppermost)."""
    wanted = [(report.teacher, TEACHER), (report.arm(report.baseline), BASELINE), (shown, STUDENT)]
    colours = {arm.name: colour for arm, colour in wanted if arm is not None and arm.name in evaluations}
    kept = [name for name in colours if name == shown.name or (evaluations[name] / "masks.npz").is_file()]
    return [(name, evaluations[name], colours[name]) for name in kept]


def _choose(report: Report, shown: Arm) -> list[tuple[str, list[str]]]:
    """Titles and ids: best, median and worst by Dice, and most gained and lost against the baseline."""
    assert shown.per_image is not None
    ids, dice = shown.per_image.image_id, shown.per_image.columns["dice"]
    order = np.argsort(dice, kind="stable")
    some = min(PER_GROUP, len(order))
    middle = max(0, len(order) // 2 - some // 2)
    groups = [
        (f"best of {shown.name}", [ids[i] for i in order[::-1][:some]]),
        (f"median of {shown.name}", [ids[i] for i in order[middle : middle + some]]),
        (f"worst of {shown.name}", [ids[i] for i in order[:some]]),
    ]
    baseline = report.arm(report.baseline)
    if baseline is None or baseline.per_image is None or baseline.name == shown.name:
        return groups
    before = dict(zip(baseline.per_image.image_id, baseline.per_image.columns["dice"], strict=True))
    gained = sorted((float(dice[i] - before[name]), name) for i, name in enumerate(ids) if name in before)
    groups.append(
        (f"most gained over {baseline.name}", [name for gain, name in gained[::-1][:some] if gain > 0])
    )
    groups.append((f"most lost against {baseline.name}", [name for gain, name in gained[:some] if gain < 0]))
    return groups


def _picture(
    name: str,
    data: PreparedData,
    row: int,
    masks: dict[str, tuple[KeptMasks, tuple[int, int, int]]],
    report: Report,
    shown: Arm,
) -> Picture:
    drawn = [(np.asarray(data.masks[row]), TRUTH)]
    drawn += [(kept[name], colour) for kept, colour in masks.values() if name in kept.place]
    scores = []
    for arm in report.arms:
        if arm.name in masks and arm.per_image is not None and name in arm.per_image.image_id:
            dice = arm.per_image.columns["dice"][arm.per_image.image_id.index(name)]
            scores.append(
                f"{arm.name} {numbers.percent(float(dice), 1)}"
                if len(masks) > 1
                else numbers.percent(float(dice), 1)
            )
    return Picture(name, "Dice " + ", ".join(scores), _webp(_outlined(np.asarray(data.images[row]), drawn)))


def _outlined(
    image: NDArray[np.uint8], masks: Sequence[tuple[NDArray[np.uint8], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """Outlines over the image at the side at which it is shown, so that lines stay fine."""
    large = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    grown = [
        (
            np.asarray(Image.fromarray(m * np.uint8(255)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
            > 127,
            c,
        )
        for m, c in masks
    ]
    return overlay(large, [(m.astype(np.uint8), c) for m, c in grown], width=1.6)


def sheet(path: Path) -> str:
    """A picture made by another stage, at most 1200 pixels wide, as a data URI."""
    picture = open_picture(path).image
    picture.thumbnail((1200, 2400))
    return _webp(np.asarray(picture))


def _whole_sheet(folder: Path, reason: str) -> Gallery:
    """The sheet of cases that ``evaluate`` drew, when masks or pack are out of reach."""
    path = folder / "cases.png"
    if not path.is_file():
        return Gallery(missing=f"no pictures: {reason}")
    about = "outlines of truth (yellow) and prediction (blue)"
    picture = Picture("best, median and worst images", about, sheet(path))
    return Gallery((("best, median, worst", (picture,)),), (), f"single pictures: {reason}")


def _webp(image: NDArray[np.uint8]) -> str:
    with io.BytesIO() as stream:
        Image.fromarray(image).save(stream, format="WEBP", quality=_QUALITY, method=6)
        return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
