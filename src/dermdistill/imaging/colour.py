"""Colours as the network was trained on them: pictures with another ICC profile are converted to sRGB."""

from __future__ import annotations

import functools
import io
import logging

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

_NEAR = 2  # of 255: a profile that changes no colour by more is sRGB, whatever its name


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture to sRGB where it carries another profile (Display P3, Adobe RGB …).

    Args:
        image: Decoded. Without a profile, or with that of sRGB, it is returned as it is.

    Returns:
        The same picture, or a new one: grey and CMYK become RGB. A profile that is broken, or not of the
        picture's colour space, is passed over, and the log says so.
    """
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What converts pictures of a mode from a profile to sRGB; None where there is nothing to do."""
    out = {"RGB": "RGB", "RGBA": "RGBA", "L": "RGB", "CMYK": "RGB"}.get(mode)
    if out is None:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(source, target, mode, out)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        logger.warning("A colour profile is passed over: %s.", str(error) or type(error).__name__)
        return None
    probe = _probe(mode)
    changed = np.asarray(transform.apply(probe).convert("RGB")).astype(int) - np.asarray(probe.convert("RGB"))
    return None if mode != "CMYK" and np.abs(changed).max() <= _NEAR else transform


def _probe(mode: str) -> Image.Image:
    """A picture with colours from everywhere in its space."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    return Image.fromarray(colours).convert(mode)
