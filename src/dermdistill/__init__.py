"""dermdistill: distil a large skin-lesion segmentation network into a small one, with honest numbers.

The names below are loaded on first use: importing the package imports neither torch nor onnxruntime.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from dermdistill._version import __version__

# ONNX Runtime 1.29 and newer reports models and hardware to its maker, and keeps a file in the user's cache,
# unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from dermdistill.card import ModelCard
    from dermdistill.config import Recipe, load_recipe
    from dermdistill.errors import DermDistillError
    from dermdistill.predict import Predictor
    from dermdistill.prediction import Prediction

_HOMES = {
    "DermDistillError": "errors",
    "ModelCard": "card",
    "Prediction": "prediction",
    "Predictor": "predict",
    "Recipe": "config",
    "load_recipe": "config",
}

__all__ = ["DermDistillError", "ModelCard", "Prediction", "Predictor", "Recipe", "__version__", "load_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dermdistill' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dermdistill.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
