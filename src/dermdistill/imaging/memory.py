"""One process, one picture after another: the memory of each is kept for the next."""

from __future__ import annotations

import numpy as np
from PIL import Image

_LARGEST = 31 << 20  # bytes; glibc learns from blocks of up to 32 MiB
_BLOCKS = 8  # of Pillow's, of up to 16 MiB each: those of a photograph of 33 megapixels


def keep_freed_memory() -> None:
    """Keep freed memory for the next picture, instead of giving it back to the system after each.

    The system clears each page that it gives: 540 of them for a picture of 256×256, 25,000 for a photograph
    of 24 megapixels, an eighth of the time that `predict` takes. It is the whole process's setting, so only
    programs make it. The most memory that is taken at once does not change.
    """
    # What malloc of glibc keeps follows the largest block that was ever freed (mallopt(3), M_MMAP_THRESHOLD).
    np.empty(_LARGEST, np.uint8)
    Image.core.set_blocks_max(_BLOCKS)  # type: ignore[attr-defined]  # documented as PILLOW_BLOCKS_MAX
