"""Draw the README's first picture: what the shipped student draws on test images, from its best to its worst.

    python -m tools.readme_picture ../shared/data/isic2017-256        (docs/images/outlines.jpg)

The images are chosen by a rule and not by eye: the 305 ISIC 2016 test images are ranked by Dice, and those at
five fixed ranks are drawn (`RANKS`). All are CC-0 (ISIC 2017 training images).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dermdistill import Predictor
from dermdistill.metrics.overlap import Counts, count, scores
from dermdistill.visualization.panels import STUDENT, TRUTH, outlined

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "outlines.jpg"
RANKS = {"9 of 10 are worse": 0.1, "3 of 4 are worse": 0.25, "half are worse": 0.5, "3 of 4 are better": 0.75,
         "9 of 10 are better": 0.9}  # fmt: skip
"""Share of the test images that score higher than the image drawn, by what is written below it."""
SIDE, GAP, LINE = 384, 16, 52
"""Pixels of an image, between two, and of a line of text."""


def draw(folder: Path, path: Path) -> None:
    """Score the test images of ``folder`` (images/, masks/, manifest.csv) and write the picture."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        names = [row["image_id"] for row in csv.DictReader(file) if row["isic2016_split"] == "test"]
    predictor = Predictor()
    truths = {
        name: (np.asarray(Image.open(folder / "masks" / f"{name}.png").convert("L")) > 127).astype(np.uint8)
        for name in names
    }
    drawn = {name: predictor(folder / "images" / f"{name}.jpg").mask for name in names}
    counts = Counts(*np.array([count(drawn[name], truths[name]) for name in names]).T)
    dice = dict(zip(names, scores(counts)["dice"].tolist(), strict=True))
    ranked = sorted(names, key=lambda name: (-dice[name], name))
    print(f"{len(names)} images, mean Dice {100 * np.mean(list(dice.values())):.2f}")

    width = len(RANKS) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, SIDE + 4 * LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(36)
    for column, (caption, share) in enumerate(RANKS.items()):
        name = ranked[round(share * (len(ranked) - 1))]
        image = np.asarray(Image.open(folder / "images" / f"{name}.jpg").convert("RGB"))
        left = column * (SIDE + GAP)
        sheet.paste(
            Image.fromarray(outlined(image, [(truths[name], TRUTH), (drawn[name], STUDENT)])), (left, 0)
        )
        for line, text in enumerate((f"Dice {100 * dice[name]:.1f}", caption)):
            middle = (left + SIDE / 2, SIDE + (line + 0.7) * LINE)
            pen.text(middle, text, font=font, fill="black" if line == 0 else "dimgray", anchor="mm")
        print(f"{name}: {100 * dice[name]:.1f}, {caption}")
    x, y = width / 2 - 440, SIDE + 3.2 * LINE
    for label, color in (("reference outline", TRUTH), ("outline of the student", STUDENT)):
        pen.rectangle((x, y - 6, x + 50, y + 6), fill=color)
        pen.text((x + 64, y), label, font=font, fill="black", anchor="lm")
        x += 480
    sheet.resize((1200, round(1200 * sheet.height / width)), Image.Resampling.LANCZOS).save(path, quality=88)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, help="images/, masks/ and manifest.csv of shared/data/isic2017-256"
    )
    parser.add_argument("--out", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    draw(arguments.folder, arguments.out)
