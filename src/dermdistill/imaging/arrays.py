"""The kinds of array that pictures are held in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]

Float32Array = NDArray[np.float32]
