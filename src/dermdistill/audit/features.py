"""What an image is recognised by: local features that survive another size, compression, angle and light.

SIFT (Lowe 2004) by OpenCV, compared as RootSIFT (Arandjelović & Zisserman 2012). Descriptors of the whole
image were tried first: dermoscopy is one dark blob on skin after another, so their nearest neighbours are
other lesions, while a lesion photographed twice, a little turned and shifted, lies far away. Its hairs, pores
and pigment dots are where they were.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import MissingExtraError
from dermdistill.imaging import UInt8Array

Float32Array = NDArray[np.float32]

METHOD = "sift-192-300-v3"
"""Changes whenever fingerprints of an older version must not be used any more."""
SIDE = 256
"""Side in pixels of the squares that images are squashed to, as prepare does it."""
FEATURE_SIDE = 192
"""Longer side in pixels at which features are looked for. Of 60 known pairs of the same lesion 59 agree
in enough features at 192 pixels, 57 at 208 and 55 at 256: finer detail is noise of the sensor and of JPEG.
It takes half the time of 256."""
MOST_FEATURES = 300
"""Strongest features that are kept. Fewer lose pairs, more cost space (128 bytes each) and time."""
CONTRAST = 0.007
"""Least contrast of a feature. OpenCV's default (0.04) finds next to none on smooth skin; with 0.01, three of
210 copies (cropped, turned, brighter) are missed, those of smooth pictures; with 0.007 none. Weak features
only for pictures with few others were tried: 50 of 60 known pairs in place of 54."""

# A SIFT descriptor is 4 rows × 4 columns × 8 directions around a point, turned to its orientation. In a
# mirror the rows change places and each direction changes its sign: no second extraction is needed.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][..., -np.arange(8) % 8].reshape(-1)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """One image, ready to be compared."""

    pixels: str
    """sha256 of the 256×256 RGB values: equal ones are equal for every network trained at that size."""
    points: Float32Array
    """float32 [n, 4]: x, y and diameter in pixels of the working image (the photograph at its true
    proportions, the longer side 256), orientation in degrees."""
    descriptors: UInt8Array
    """SIFT, uint8 [n, 128], the strongest first."""
    grey: UInt8Array
    """The working image at half its size, uint8 [h, w], the longer side 128."""

    @functools.cached_property
    def roots(self) -> Float32Array:
        """The descriptors as :func:`root_sift` compares them, float32 [n, 128]."""
        return root_sift(self.descriptors)

    def mirrored(self) -> Fingerprint:
        """The fingerprint that the image would have if left and right changed places."""
        points = self.points.copy()
        points[:, 0] = 2 * self.grey.shape[1] - 1 - points[:, 0]
        points[:, 3] = (180 - points[:, 3]) % 360
        return Fingerprint(
            self.pixels, points, self.descriptors[:, _MIRROR], np.ascontiguousarray(self.grey[:, ::-1])
        )


def check_installed() -> None:
    """Say what is missing before anything is read.

    Raises:
        MissingExtraError: OpenCV or FAISS is not installed.
    """
    opencv()
    faiss()


def opencv() -> Any:
    """The cv2 module.

    Raises:
        MissingExtraError: It is not installed.
    """
    return _module("cv2", "OpenCV")


def faiss() -> Any:
    """The faiss module.

    Raises:
        MissingExtraError: It is not installed.
    """
    return _module("faiss", "FAISS")


def _module(name: str, title: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"dermdistill audit needs {title}, which is not installed.",
            "the audit part of dermdistill",
            "pip install 'dermdistill[audit]'",
        ) from None


def fingerprint(square: UInt8Array, aspect: float = 1.0) -> Fingerprint:
    """Describe one image.

    Args:
        square: RGB uint8 [256, 256, 3], squashed.
        aspect: Width over height of the photograph before it was squashed: features are detected at its
            true proportions, so that a turned camera gives the same ones.

    Returns:
        The features, and the image in grey at half the working size.

    Raises:
        ValueError: Another shape or type.
    """
    if square.shape != (SIDE, SIDE, 3) or square.dtype != np.uint8:
        raise ValueError(f"expected uint8 ({SIDE}, {SIDE}, 3), found {square.dtype} {square.shape}")
    cv2 = opencv()
    aspect = min(max(aspect, 0.25), 4.0)
    half = np.array([1.0, 1 / aspect] if aspect >= 1 else [aspect, 1.0]) * (SIDE // 2)
    width, height = (int(side) for side in np.maximum(1, half.round()))
    grey = cv2.cvtColor(np.ascontiguousarray(square), cv2.COLOR_RGB2GRAY)
    share = FEATURE_SIDE / SIDE
    size = [max(1, round(2 * side * share)) for side in (width, height)]
    keypoints, descriptors = cv2.SIFT_create(MOST_FEATURES, contrastThreshold=CONTRAST).detectAndCompute(
        cv2.resize(grey, size, interpolation=cv2.INTER_AREA), None
    )
    order = np.argsort([-point.response for point in keypoints], kind="stable")
    points = np.array([(*p.pt, p.size, p.angle) for p in keypoints], np.float32).reshape(-1, 4)[order]
    points[:, :2] = (points[:, :2] + 0.5) / share - 0.5  # the middle of a pixel stays in the middle
    points[:, 2] /= share
    if descriptors is None:
        descriptors = np.zeros((0, 128), np.float32)
    # OpenCV keeps as many more as share the last one's strength; its descriptors are whole numbers to 255.
    return Fingerprint(
        hashlib.sha256(square.tobytes()).hexdigest(),
        points[:MOST_FEATURES],
        descriptors[order][:MOST_FEATURES].astype(np.uint8),
        cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA),
    )


def root_sift(descriptors: UInt8Array) -> Float32Array:
    """Square roots of the descriptors' shares: float32 [n, 128], each of length 1 (0 for an empty one)."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))
