"""Distillation losses on one logit per pixel: Bernoulli KL, boundary, channel-wise; see `rules`.

The teacher's logits are detached: no gradient ever flows to the teacher.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

from dermdistill.losses.rules import Reduction, in_float32, reduce_images


@in_float32
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

    Examples:
        >>> import torch
        >>> from dermdistill.losses import bernoulli_kl_loss
        >>> teacher_logits = torch.tensor([2.0, -1.0]).view(1, 1, 1, 2)
        >>> float(bernoulli_kl_loss(teacher_logits, teacher_logits))
        0.0
        >>> round(float(bernoulli_kl_loss(torch.zeros(1, 1, 1, 2), teacher_logits)), 3)
        0.282
    """
    divergence = _bernoulli_kl(student_logits, teacher_logits, temperature)
    return reduce_images(divergence.mean(dim=(1, 2, 3)), reduction)


@in_float32
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
    return reduce_images((divergence * band).sum(dim=(1, 2, 3)) / pixels.clamp(min=1), reduction)


@in_float32
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

    Args:
        student_logits: Any real number.
        teacher_logits: The same; detached.
        temperature: T > 0.
        reduction: ``mean`` over the images, or ``none``.
    """
    student = (student_logits.flatten(2) / temperature).log_softmax(dim=2)
    teacher = (teacher_logits.detach().flatten(2) / temperature).log_softmax(dim=2)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=2)
    return reduce_images(temperature**2 * divergence.mean(dim=1), reduction)


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
