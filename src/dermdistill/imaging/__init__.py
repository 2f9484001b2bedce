"""Find, decode, orient, resize, restore; outlines and overlays. The only preprocessing there is."""

from __future__ import annotations

from dermdistill.imaging.images import (
    MAX_PIXELS,
    Float32Array,
    Source,
    UInt8Array,
    image_size,
    overlay,
    read_image,
    read_mask,
    resize_image,
    resize_mask,
    restore_prob,
    to_mask,
    write_jpeg,
    write_png,
)

__all__ = [
    "MAX_PIXELS",
    "Float32Array",
    "Source",
    "UInt8Array",
    "image_size",
    "overlay",
    "read_image",
    "read_mask",
    "resize_image",
    "resize_mask",
    "restore_prob",
    "to_mask",
    "write_jpeg",
    "write_png",
]
