"""What all losses have in common: one value per image, at least float32.

Three rules hold for all of them:

* **One value per image, then the mean over the batch.** So the mean over two equal halves of a batch is the
  mean over the whole, on any number of devices. ``reduction="none"`` returns the values per image, ``[b]``.
* **The scale does not depend on the image size**: doubling H×W of the same picture leaves the value.
* **At least float32**, whatever autocast does around them: sums over 512² pixels overflow in float16.
  float64 stays float64 (gradient checks).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec

import torch
from jaxtyping import Float
from torch import Tensor

Reduction = Literal["mean", "none"]
P = ParamSpec("P")


def in_float32(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss outside autocast, with every tensor argument in float32 (float64 is kept)."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = (value for value in [*args, *kwargs.values()] if isinstance(value, Tensor))
        with torch.autocast(next(tensors).device.type, enabled=False):
            return loss(*map(_full, args), **{name: _full(value) for name, value in kwargs.items()})

    return wrapped


def _full(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype != torch.float64 else value


def reduce_images(per_image: Float[Tensor, " b"], reduction: Reduction) -> Tensor:
    """The mean over the images, or their values as they are."""
    return per_image.mean() if reduction == "mean" else per_image
