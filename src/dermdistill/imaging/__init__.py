"""Find, decode, orient, resize, restore; outlines and overlays. The only preprocessing there is."""

from __future__ import annotations

from dermdistill.imaging.arrays import Float32Array, UInt8Array
from dermdistill.imaging.decode import (
    MAX_PIXELS,
    MAX_SIDE,
    Picture,
    Source,
    image_size,
    open_picture,
    orientation_of,
    read_image,
)
from dermdistill.imaging.drawing import draw_outlines, overlay
from dermdistill.imaging.encode import encode_jpeg, encode_png, write_bytes, write_png
from dermdistill.imaging.masks import MaskFile, decode_mask, read_mask
from dermdistill.imaging.resize import (
    Region,
    region_of,
    resize_image,
    resize_mask,
    restore_grey,
    restore_prob,
    restore_region,
    restored_mean,
    to_mask,
)

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "Float32Array",
    "MaskFile",
    "Picture",
    "Region",
    "Source",
    "UInt8Array",
    "decode_mask",
    "draw_outlines",
    "encode_jpeg",
    "encode_png",
    "image_size",
    "open_picture",
    "orientation_of",
    "overlay",
    "read_image",
    "read_mask",
    "region_of",
    "resize_image",
    "resize_mask",
    "restore_grey",
    "restore_prob",
    "restore_region",
    "restored_mean",
    "to_mask",
    "write_bytes",
    "write_png",
]
