"""Masks of methods without learning, for the table of peers: what a network has to be better than.

Nothing is fitted, so that no picture is spent on them; parameters are the papers' or OpenCV's defaults.

- ``otsu``: grey levels, Gaussian blur (sigma 1/50 of the width), Otsu's threshold (1979), the largest dark
  region with its holes filled.
- ``grabcut``: GrabCut (Rother et al. 2004), five iterations, begun with the ellipse of half the picture's
  sides.
- ``ellipse``: that ellipse itself, whatever the picture shows.

    python benchmarks/baselines.py --images DIR --out baselines      (OpenCV: dermdistill[audit])
    dermdistill compare shipped baselines/grabcut baselines/otsu baselines/ellipse --images DIR --masks DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dermdistill.imaging.find import find_images

Picture = NDArray[np.uint8]  # [h, w, 3]
Mask = NDArray[np.uint8]  # [h, w], 0 or 255


def ellipse(picture: Picture) -> Mask:
    """The ellipse in the middle with half the picture's sides as diameters."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 4, height // 4), 0, 0, 360, 255, cv2.FILLED)
    return mask


def otsu(picture: Picture) -> Mask:
    """The largest region that is darker than Otsu's threshold, its holes filled."""
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), picture.shape[1] / 50)
    _, dark = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    outlines, _ = cv2.findContours(dark, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros_like(dark)
    if outlines:
        cv2.drawContours(mask, [max(outlines, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return mask


def grabcut(picture: Picture) -> Mask:
    """GrabCut from the ellipse: inside probably lesion, outside probably skin."""
    cv2.setRNGSeed(0)  # its colour clusters begin at random
    labels = np.where(ellipse(picture) > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    cv2.grabCut(bgr, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    return np.where((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)


def main() -> None:
    """Write a folder of masks for each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("baselines"))
    args = parser.parse_args()
    methods = {"otsu": otsu, "grabcut": grabcut, "ellipse": ellipse}
    for name in methods:
        (args.out / name).mkdir(parents=True, exist_ok=True)
    for path in tqdm(find_images([args.images]), desc="masks"):
        picture = np.asarray(Image.open(path).convert("RGB"))
        for name, method in methods.items():
            Image.fromarray(method(picture)).save(args.out / name / f"{path.stem}.png")


if __name__ == "__main__":
    main()
