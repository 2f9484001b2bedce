"""Losses on one logit per pixel: supervised terms and distillation terms, as pure functions.

Three rules hold for all of them:

* **One value per image, then the mean over the batch.** So the mean over two equal halves of a batch is the
  mean over the whole, on any number of devices. ``reduction="none"`` returns the values per image, ``[b]``.
* **The scale does not depend on the image size**: doubling H×W of the same picture leaves the value.
* **At least float32**, whatever autocast does around them: sums over 512² pixels overflow in float16.
  float64 stays float64 (gradient checks).

The teacher's logits are detached: no gradient ever flows to the teacher.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

Reduction = Literal["mean", "none"]
P = ParamSpec("P")


def _fp32_island(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Run a loss outside autocast, with every tensor argument in float32 (float64 is kept)."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = (value for value in [*args, *kwargs.values()] if isinstance(value, Tensor))
        with torch.autocast(next(tensors).device.type, enabled=False):
            return loss(*map(_full, args), **{name: _full(value) for name, value in kwargs.items()})

    return wrapped


def _full(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype != torch.float64 else value


def _reduce(per_image: Float[Tensor, " b"], reduction: Reduction) -> Tensor:
    return per_image.mean() if reduction == "mean" else per_image


@_fp32_island
def soft_dice_loss(
    logits: Float[Tensor, "b 1 h w"],
    mask: Real[Tensor, "b 1 h w"],
    *,
    smooth: float = 1e-5,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """Soft Dice with squares in the denominator: 1 − (2·Σpm + ε) / (Σp² + Σm² + ε), per image.

    Source: Milletari et al. 2016, V-Net (arXiv 1606.04797), section 3.

    Args:
        logits: Any real number.
        mask: {0, 1}.
        smooth: ε as a fraction of the image's pixels (1e-5 is 0.7 pixels of 256²): an empty mask that is
            predicted empty has loss 0 and not 0/0, at any image size.
        reduction: ``mean`` over the images, or ``none``.

    Returns:
        0 (equal) to 1 (disjoint).
    """
    prob, mask = logits.sigmoid(), mask.to(logits.dtype)
    # Means and not sums: the same ratio, but ε does not depend on the image size.
    overlap = (prob * mask).mean(dim=(1, 2, 3))
    total = prob.square().mean(dim=(1, 2, 3)) + mask.square().mean(dim=(1, 2, 3))
    return _reduce(1 - (2 * overlap + smooth) / (total + smooth), reduction)


@_fp32_island
def bce_loss(
    logits: Float[Tensor, "b 1 h w"], mask: Real[Tensor, "b 1 h w"], *, reduction: Reduction = "mean"
) -> Float[Tensor, "*images"]:
    """Binary cross-entropy of σ(logits) against a {0, 1} mask, mean over pixels; 0 or more."""
    # −log of the true class's probability. torch's own takes the difference of two large numbers: 0 for −34.
    loss = -F.logsigmoid(torch.where(mask > 0.5, logits, -logits))
    return _reduce(loss.mean(dim=(1, 2, 3)), reduction)


@_fp32_island
def focal_loss(
    logits: Float[Tensor, "b 1 h w"],
    mask: Real[Tensor, "b 1 h w"],
    *,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """Focal loss −(1 − p)^γ·log p of the true class, mean over pixels. γ = 0 is the binary cross-entropy.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 4 (no α: lesions are not rare enough to need it).
    """
    signed = torch.where(mask > 0.5, logits, -logits)
    # (1 − p)^γ through the logarithm: its gradient stays finite where p is 1, for every γ ≥ 0.
    loss = -(gamma * F.logsigmoid(-signed)).exp() * F.logsigmoid(signed)
    return _reduce(loss.mean(dim=(1, 2, 3)), reduction)


@_fp32_island
def bernoulli_kl_loss(
    student_logits: Float[Tensor, "b 1 h w"],
    teacher_logits: Float[Tensor, "b 1 h w"],
    temperature: float = 2.0,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """T²·KL(σ(t/T) ‖ σ(s/T)), mean over pixels: exactly 0, with gradient exactly 0, where s = t.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2, for the two classes that one logit stands for.
    For T → ∞ it tends to (s − t)²/8. T² keeps the gradient's size when T changes.

    Args:
        student_logits: s.
        teacher_logits: t; detached.
        temperature: T > 0.
        reduction: ``mean`` over the images, or ``none``.
    """
    divergence = _bernoulli_kl(student_logits, teacher_logits, temperature)
    return _reduce(divergence.mean(dim=(1, 2, 3)), reduction)


@_fp32_island
def boundary_kl_loss(
    student_logits: Float[Tensor, "b 1 h w"],
    teacher_logits: Float[Tensor, "b 1 h w"],
    mask: Real[Tensor, "b 1 h w"],
    temperature: float = 2.0,
    width: int = 5,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """The Bernoulli KL, mean over the pixels within ``width`` of the true outline (both sides).

    Source: the band by dilation and erosion of the truth is that of Liu et al. 2024, BPKD (arXiv 2306.08075);
    the divergence is `bernoulli_kl_loss`. An image without an outline contributes 0.

    Args:
        student_logits: s.
        teacher_logits: t; detached.
        mask: {0, 1}; its outline is the band's middle. The image's own border is no outline.
        temperature: T > 0.
        width: Half-width of the band in pixels, at least 1.
        reduction: ``mean`` over the images, or ``none``.
    """
    divergence = _bernoulli_kl(student_logits, teacher_logits, temperature)
    band = boundary_band(mask.to(divergence.dtype), width)
    pixels = band.sum(dim=(1, 2, 3))
    return _reduce((divergence * band).sum(dim=(1, 2, 3)) / pixels.clamp(min=1), reduction)


@_fp32_island
def channel_wise_loss(
    student_logits: Float[Tensor, "b c h w"],
    teacher_logits: Float[Tensor, "b c h w"],
    temperature: float = 4.0,
    *,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """T²·KL between the two softmaxes *over positions*, mean over channels: where does each look?

    Source: Shu et al. 2021 (arXiv 2011.13256), equations 3 and 4. A constant added to the logits does not
    count. Each softmax is a distribution over all positions, so its sum does not grow with H×W.
    """
    student = (student_logits.flatten(2) / temperature).log_softmax(dim=2)
    teacher = (teacher_logits.detach().flatten(2) / temperature).log_softmax(dim=2)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=2)
    return _reduce(temperature**2 * divergence.mean(dim=1), reduction)


def boundary_band(mask: Float[Tensor, "b 1 h w"], width: int) -> Float[Tensor, "b 1 h w"]:
    """{0, 1}: pixels whose square of half-width ``width`` holds both lesion and skin."""
    side = 2 * width + 1
    dilated = F.max_pool2d(mask, side, stride=1, padding=width)
    eroded = -F.max_pool2d(-mask, side, stride=1, padding=width)
    return dilated - eroded


def _bernoulli_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T²·KL per pixel, as cross-entropy minus entropy.

    Both come from the same function, so equal logits give exactly 0; and its gradient is σ(s/T) − σ(t/T)
    as written, so that is exactly 0 too (log-ratios differentiate to two terms that only nearly cancel).
    """
    student, teacher = student_logits / temperature, teacher_logits.detach() / temperature
    prob = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, prob, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, prob, reduction="none")
    return temperature**2 * (cross_entropy - entropy)
