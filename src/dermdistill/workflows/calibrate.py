"""Draw as *they* draw: fit a student's outline to some masks of one's own, without training or torch.

Who drew the masks matters more than the network: carried to another clinic, most of the error is one number,
the outline's width. That number is the threshold on the probability of lesion, which is all that is fitted:

1. Each picture's Dice is taken at every threshold of a grid, logits −3 to 3 around the card's own.
2. Of all thresholds whose mean Dice is within one standard error of the best one's (paired over pictures),
   the nearest to the card's own is chosen: the one-standard-error rule (Breiman et al. 1984). Taking the best
   itself made the other pictures of a tool worse in up to 54, 45 and 50 % of draws of 5, 10 and 20 pictures,
   this rule in at most 11, 8 and 5 % (the shipped student, its validation images, 300 draws).
3. What it gains is measured by leaving out each picture in turn; a gain that is not told from 0 is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermdistill.artifacts.card import ModelCard, OutlineCalibration, timestamp
from dermdistill.core.errors import DataError, UsageError
from dermdistill.core.files import atomic_path, hash_file
from dermdistill.core.numbers import percent, signed
from dermdistill.data.prepare.pairing import Pair, listed, pair_folders
from dermdistill.imaging import read_mask
from dermdistill.inference.backends import SHIPPED
from dermdistill.inference.onnx_metadata import with_card
from dermdistill.inference.predictor import Predictor
from dermdistill.metrics.intervals import Interval, Values, difference_interval, mean_interval

MIN_IMAGES = 5
"""Fewer pictures say nothing about a clinic's habits."""
OFFSETS = np.round(np.arange(-3.0, 3.001, 0.05), 2)
"""Logits that are added before a pixel is called lesion; positive ones draw wider."""
_UNMOVED = int(np.flatnonzero(OFFSETS == 0)[0])


@dataclass(frozen=True)
class Calibrated:
    """What a fit found.

    Attributes:
        card: The card with the new threshold and what was measured.
        before: Mean Dice before, with its 95 % interval.
        after: Mean Dice after, each picture drawn by what the others taught.
        gain: Mean of the pictures' differences, with its 95 % interval.
        column: The chosen offset's place in OFFSETS.
    """

    card: ModelCard
    column: int
    before: Interval
    after: Interval
    gain: Interval


def calibrate(
    images: Path, masks: Path, *, out: Path, model: Path | None = None, progress: bool = True
) -> Calibrated:
    """Write a student whose outline is fitted to some masks.

    Args:
        images: Folder of dermoscopic pictures, at any depth; twenty are enough as a rule.
        masks: Folder of their masks, called like their picture, or with _Segmentation, _mask or _lesion
            after it.
        out: The ONNX file to write; the network in it is the same, byte by byte.
        model: An ONNX file of ``dermdistill export``; None: the shipped student.
        progress: Show a bar on standard error.

    Returns:
        The new card, and Dice before and after.

    Raises:
        UsageError: Fewer than 5 pairs, or the model is not an ONNX file.
        DataError: Masks look wrong (empty, inverted, of another size than their picture), or the gain is not
            told from 0; nothing is written.
        WeightsError: The model cannot be used.
    """
    source = SHIPPED if model is None else model
    if source.is_dir() or source.suffix == ".pth":
        raise UsageError(
            f"{source} is a training's result, not an ONNX file.",
            "an ONNX file as dermdistill export writes it",
            f"Export it first (dermdistill export {source}), and name the .onnx file with --model.",
        )
    predictor = Predictor(source)
    pairs = pair_folders(images, masks).pairs
    if len(pairs) < MIN_IMAGES:
        raise UsageError(
            f"There are {len(pairs)} pictures with a mask in {images} and {masks}.",
            f"{MIN_IMAGES} or more; twenty are enough as a rule",
            "Draw some more, of pictures as they come, not chosen ones.",
        )
    earlier = predictor.card.calibration
    threshold = earlier.threshold_before if earlier else predictor.card.threshold
    curves = measure(predictor, pairs, threshold, progress=progress)
    found = fit(curves, predictor.card, threshold, _hash_pairs(pairs))
    if found.gain.low <= 0:
        raise DataError(
            f"With these {len(pairs)} masks no gain can be told from 0: Dice {percent(found.before.mean)} "
            f"before, {percent(found.after.mean)} after (95 % interval of the difference "
            f"{signed(found.gain.low)} to {signed(found.gain.high)} points). Nothing was written.",
            "a difference whose interval lies above 0",
            "Keep the student as it is: as far as these masks tell, it draws as you do.",
        )
    content = with_card(source.read_bytes(), found.card)
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)
    return found


@dataclass(frozen=True)
class Curves:
    """Of n pictures at each of OFFSETS: Dice in [0, 1] and drawn area in pixels, float64 [n, offsets]."""

    dice: NDArray[np.float64]
    area: NDArray[np.float64]


def fit(curves: Curves, card: ModelCard, threshold: float, images_sha256: str) -> Calibrated:
    """The card with the threshold that the curves ask for, and what that gains, by leave-one-out.

    Args:
        curves: Of the pictures, at least two of them.
        card: The student's.
        threshold: The one that offset 0 stands for, in (0, 1).
        images_sha256: Hash of the pictures and masks.

    Returns:
        What was found; the gain may be 0, or less.
    """
    dice = curves.dice
    rows = np.arange(len(dice))
    after = np.array([dice[row, choose(dice[rows != row])] for row in rows])
    before = dice[:, _UNMOVED]
    gain = difference_interval(after - before)
    chosen = choose(dice)
    drawn = curves.area[:, _UNMOVED] > 0
    ratio = curves.area[drawn, chosen] / curves.area[drawn, _UNMOVED]
    calibration = OutlineCalibration(
        images=len(dice),
        images_sha256=images_sha256,
        threshold_before=threshold,
        area_ratio=float(np.median(ratio)) if ratio.size else 1.0,
        dice_before=float(before.mean()),
        dice_after=float(after.mean()),
        gain_low=gain.low,
        gain_high=gain.high,
        created=timestamp(),
    )
    update = {"threshold": float(_thresholds(threshold)[chosen]), "calibration": calibration}
    return Calibrated(
        card.model_copy(update=update), chosen, mean_interval(before), mean_interval(after), gain
    )


def choose(dice: Values) -> int:
    """Column of the offset nearest to 0 that is within one standard error of the best (see this module).

    Args:
        dice: float64 [n, offsets], n of 2 or more.
    """
    mean = dice.mean(axis=0)
    best = int(mean.argmax())
    error = (dice[:, [best]] - dice).std(axis=0, ddof=1) / np.sqrt(len(dice))
    near_best = np.flatnonzero(mean >= mean[best] - error)
    return int(near_best[np.abs(near_best - _UNMOVED).argmin()])


def measure(predictor: Predictor, pairs: Sequence[Pair], threshold: float, *, progress: bool) -> Curves:
    """Dice and area of every picture at every offset, at the native size of the mask.

    Raises:
        DataError: Masks look wrong, or a picture cannot be read.
    """
    thresholds = _thresholds(threshold)
    dice, area, wrong = [], [], []
    inverted = 0
    for pair in tqdm(pairs, desc="calibrate", unit="picture", disable=not progress):
        assert pair.mask is not None
        mask = read_mask(pair.mask)[0].astype(bool)
        prob = predictor(pair.image).prob
        if prob.shape != mask.shape:
            sizes = f"{mask.shape[1]}×{mask.shape[0]}, its picture {prob.shape[1]}×{prob.shape[0]}"
            wrong.append(f"{pair.mask.name} is {sizes}")
            continue
        if mask.all() or not mask.any():
            wrong.append(f"{pair.mask.name} is all {'lesion' if mask.all() else 'skin'}")
            continue
        overlap, drawn = _above(prob[mask], thresholds), _above(prob, thresholds)
        dice.append(2 * overlap / (drawn + np.count_nonzero(mask)))
        area.append(drawn)
        missed, outside = drawn - overlap, mask.size - np.count_nonzero(mask)
        inverted += bool(2 * missed[_UNMOVED] / (drawn[_UNMOVED] + outside) > dice[-1][_UNMOVED])
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(pairs)} masks look wrong: {listed(wrong)}.",
            "masks as large as their picture (as it is shown), white where lesion is and black elsewhere",
            "Fix or remove them.",
        )
    if inverted > len(pairs) / 2:
        raise DataError(
            f"{inverted} of {len(pairs)} masks fit better the other way round.",
            "white (255) where lesion is, black (0) where skin is",
            "Invert the masks.",
        )
    return Curves(np.stack(dice), np.stack(area))


def _above(prob: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many values lie above each of the falling thresholds, float64."""
    rising = thresholds[::-1].astype(np.float32)
    bins = np.bincount(np.searchsorted(rising, prob.ravel(), side="left"), minlength=len(rising) + 1)
    return bins[::-1].cumsum()[:-1].astype(np.float64)


def _thresholds(threshold: float) -> NDArray[np.float64]:
    """The threshold at each offset: adding b to a logit is lowering the threshold's logit by b."""
    logit = np.log(threshold / (1 - threshold))
    return 1 / (1 + np.exp(OFFSETS - logit))


def _hash_pairs(pairs: Sequence[Pair]) -> str:
    files = [file for pair in pairs for file in (pair.image, pair.mask) if file is not None]
    return hashlib.sha256("\n".join(hash_file(file) for file in files).encode()).hexdigest()


def describe(found: Calibrated) -> str:
    """The result in words, several lines."""
    card, calibration = found.card, found.card.calibration
    assert calibration is not None
    change = percent(abs(calibration.area_ratio - 1), 0)
    way = "tighter" if calibration.area_ratio < 1 else "wider"
    size = "smaller" if calibration.area_ratio < 1 else "larger"
    return (
        f"{calibration.images} pictures with masks. Dice before {percent(found.before.mean)}, after "
        f"{percent(found.after.mean)}, each picture drawn by what the others taught: "
        f"{signed(found.gain.mean)} points (95 % interval {signed(calibration.gain_low)} to "
        f"{signed(calibration.gain_high)}).\n"
        f"Outlines are drawn {way} from now on: areas {change} % {size} "
        f"(threshold {calibration.threshold_before:.2f} → {card.threshold:.2f})."
    )
