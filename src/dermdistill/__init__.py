"""dermdistill: distil a large skin-lesion segmentation network into a small one, with honest numbers.

The names below are loaded on first use: importing the package imports neither torch nor onnxruntime. Those
that train, measure or export need the extra ``dermdistill[train]``.
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
    from dermdistill.bench import bench as bench_models
    from dermdistill.card import ModelCard
    from dermdistill.comparison import Comparison, compare_runs
    from dermdistill.config import Recipe, load_recipe
    from dermdistill.data.dataset import PreparedData
    from dermdistill.data.prepare import ensure_prepared, prepare_folder, prepare_phantom, prepare_source
    from dermdistill.errors import DermDistillError
    from dermdistill.evaluation import evaluate
    from dermdistill.export import export as export_run
    from dermdistill.figures import outlined
    from dermdistill.gallery import figure_of_run
    from dermdistill.imaging import overlay, read_image
    from dermdistill.losses import bernoulli_kl_loss, soft_dice_loss
    from dermdistill.models.build import build_model, count_macs, count_parameters
    from dermdistill.models.torch_backend import load_run
    from dermdistill.predict import Predictor
    from dermdistill.prediction import Prediction
    from dermdistill.training import distill, train

# Name → module, or module:name where a module of that name would hide the function.
_HOMES = {
    "Comparison": "comparison",
    "DermDistillError": "errors",
    "ModelCard": "card",
    "Prediction": "prediction",
    "Predictor": "predict",
    "PreparedData": "data.dataset",
    "Recipe": "config",
    "bench_models": "bench:bench",
    "bernoulli_kl_loss": "losses",
    "build_model": "models.build",
    "compare_runs": "comparison",
    "count_macs": "models.build",
    "count_parameters": "models.build",
    "distill": "training",
    "ensure_prepared": "data.prepare",
    "evaluate": "evaluation",
    "export_run": "export:export",
    "figure_of_run": "gallery",
    "load_recipe": "config",
    "load_run": "models.torch_backend",
    "outlined": "figures",
    "overlay": "imaging",
    "prepare_folder": "data.prepare",
    "prepare_phantom": "data.prepare",
    "prepare_source": "data.prepare",
    "read_image": "imaging",
    "soft_dice_loss": "losses",
    "train": "training",
}

__all__ = [
    "Comparison",
    "DermDistillError",
    "ModelCard",
    "Prediction",
    "Predictor",
    "PreparedData",
    "Recipe",
    "__version__",
    "bench_models",
    "bernoulli_kl_loss",
    "build_model",
    "compare_runs",
    "count_macs",
    "count_parameters",
    "distill",
    "ensure_prepared",
    "evaluate",
    "export_run",
    "figure_of_run",
    "load_recipe",
    "load_run",
    "outlined",
    "overlay",
    "prepare_folder",
    "prepare_phantom",
    "prepare_source",
    "read_image",
    "soft_dice_loss",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dermdistill' has no attribute {name!r}")
    module, _, inside = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"dermdistill.{module}"), inside or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
