"""What twenty masks are worth: `dermdistill calibrate` on the validation images of each drawing tool.

The masks of ISIC 2017 were drawn with several tools (annotations.csv: T1 points set by hand, T2 a flood
fill, T3 autofill). Of each tool's validation images some are drawn at random, the outline is fitted to
their masks, and the other images of the tool are scored. Repeated; a fit whose gain is not told from 0 is
refused, as the command does it, and counts as no change.

A hand that it has never seen is simulated: the masks of tool T3 with their edge moved in or out by an
even width, to 0.8, 0.9, 1.1 and 1.2 of their area.

The shipped student has seen training images of all tools, and its epoch was chosen on these validation
images: for a clinic whose masks it has never seen the gain may be larger. The test split is not read.

    dermdistill prepare own --name release …   (recipes/release.yaml)
    python benchmarks/calibrate.py --data data/release --annotations annotations.csv
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt

from dermdistill import Predictor
from dermdistill.core.files import read_csv
from dermdistill.data.prepare.pairing import Pair
from dermdistill.imaging import UInt8Array, read_mask, write_png
from dermdistill.workflows.calibrate import OFFSETS, Curves, fit, measure

UNMOVED = int(np.flatnonzero(OFFSETS == 0)[0])


def tool_of(masks: str) -> str:
    """The tool of all masks of an image, or "several", or "unknown"."""
    tools = {mask.split(":")[1] for mask in masks.split()}
    return tools.pop() if len(tools) == 1 else "several" if tools else "unknown"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="prepared data set with a validation split")
    parser.add_argument("--annotations", type=Path, required=True, help="a table: image_id, masks")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with options.annotations.open(encoding="utf-8") as stream:
        tools = {row["image_id"]: tool_of(row["masks"]) for row in csv.DictReader(stream)}
    rows = [row for row in read_csv(options.data / "manifest.csv") if row["split"] == "val"]
    predictor = Predictor()
    pairs = [Pair(row["image_id"], Path(row["image"]), Path(row["mask"])) for row in rows]
    curves = measure(predictor, pairs, predictor.card.threshold, progress=True)
    tool = np.array([tools.get(pair.image_id, "unknown") for pair in pairs])
    print("| masks of | images | Dice | shown | refused | mean gain, points | worse by over 0.1 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in sorted(set(tool)):
        own = np.flatnonzero(tool == name)
        report(name, Curves(curves.dice[own], curves.area[own]), predictor, options)
    with tempfile.TemporaryDirectory() as folder:
        for ratio in (0.8, 0.9, 1.1, 1.2):
            other = []
            for pair in (pairs[place] for place in np.flatnonzero(tool == "T3")):
                assert pair.mask is not None
                moved = Path(folder) / f"{ratio}-{pair.image_id}.png"
                write_png(moved, 255 * redrawn(read_mask(pair.mask)[0], ratio))
                other.append(Pair(pair.image_id, pair.image, moved))
            moved_curves = measure(predictor, other, predictor.card.threshold, progress=False)
            report(f"T3, area × {ratio}", moved_curves, predictor, options)


def redrawn(mask: UInt8Array, ratio: float) -> UInt8Array:
    """The mask {0, 1} [h, w] with its edge moved by an even width, to this ratio of its area."""
    outside, inside = distance_transform_edt(mask == 0), distance_transform_edt(mask)
    signed = (outside - inside).ravel()
    edge = np.partition(signed, k := min(int(ratio * mask.sum()), mask.size - 1))[k]
    return (signed < edge).reshape(mask.shape).astype(np.uint8)


def report(name: str, curves: Curves, predictor: Predictor, options: argparse.Namespace) -> None:
    """Print the rows of one tool: fits to some of its images, scored on its other images."""
    generator = np.random.default_rng(options.seed)
    card, images = predictor.card, len(curves.dice)
    for n in (5, 10, 20):
        if images < n + 10:
            continue
        gains, refused = [], 0
        for _ in range(options.draws):
            order = generator.permutation(images)
            shown, rest = order[:n], order[n:]
            found = fit(Curves(curves.dice[shown], curves.area[shown]), card, card.threshold, "")
            refused += found.gain.low <= 0
            moved = curves.dice[rest, found.column] - curves.dice[rest, UNMOVED]
            gains.append(100 * float(moved.mean()) if found.gain.low > 0 else 0.0)
        worse = np.mean(np.array(gains) < -0.1)
        dice = 100 * curves.dice[:, UNMOVED].mean()
        print(
            f"| {name} | {images} | {dice:.2f} | {n} | {refused / options.draws:.0%} | "
            f"{np.mean(gains):+.2f} | {worse:.0%} |"
        )


if __name__ == "__main__":
    main()
