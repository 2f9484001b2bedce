"""dermdistill: distil a large skin-lesion segmentation network into a small one, with honest numbers.

The public names are those of ``__init__.pyi``. They are loaded on first use: importing the package imports
neither torch nor onnxruntime. Those that train, measure or export need the extra ``dermdistill[train]``.
"""

from __future__ import annotations

import os

import lazy_loader

# ONNX Runtime 1.29 and newer reports models and hardware to its maker, and keeps a file in the user's cache,
# unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
