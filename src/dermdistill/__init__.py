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
    from dermdistill.artifacts.card import ModelCard
    from dermdistill.benchmark.benchmark import bench as bench_models
    from dermdistill.config import Recipe, load_recipe
    from dermdistill.core.errors import DermDistillError
    from dermdistill.data.dataset import PreparedData
    from dermdistill.data.prepare.prepare import (
        ensure_prepared,
        prepare_folder,
        prepare_phantom,
        prepare_source,
    )
    from dermdistill.evaluation.evaluate import evaluate
    from dermdistill.evaluation.gallery import figure_of_run
    from dermdistill.export.export import export as export_run
    from dermdistill.imaging import overlay, read_image
    from dermdistill.inference.prediction import Prediction
    from dermdistill.inference.predictor import Predictor
    from dermdistill.losses import bernoulli_kl_loss, soft_dice_loss
    from dermdistill.models.build import build_model, count_macs, count_parameters
    from dermdistill.models.torch_backend import load_run
    from dermdistill.study.comparison import Comparison, compare_runs
    from dermdistill.training.run import distill, train
    from dermdistill.visualization.panels import outlined

# Name → module, or module:name where a module of that name would hide the function.
_HOMES = {
    "Comparison": "study.comparison",
    "DermDistillError": "core.errors",
    "ModelCard": "artifacts.card",
    "Prediction": "inference.prediction",
    "Predictor": "inference.predictor",
    "PreparedData": "data.dataset",
    "Recipe": "config",
    "bench_models": "benchmark.benchmark:bench",
    "bernoulli_kl_loss": "losses",
    "build_model": "models.build",
    "compare_runs": "study.comparison",
    "count_macs": "models.build",
    "count_parameters": "models.build",
    "distill": "training.run",
    "ensure_prepared": "data.prepare.prepare",
    "evaluate": "evaluation.evaluate",
    "export_run": "export.export:export",
    "figure_of_run": "evaluation.gallery",
    "load_recipe": "config",
    "load_run": "models.torch_backend",
    "outlined": "visualization.panels",
    "overlay": "imaging",
    "prepare_folder": "data.prepare.prepare",
    "prepare_phantom": "data.prepare.prepare",
    "prepare_source": "data.prepare.prepare",
    "read_image": "imaging",
    "soft_dice_loss": "losses",
    "train": "training.run",
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
