"""Supervised losses on one logit per pixel: soft Dice, binary cross-entropy, focal; see `rules`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real
from torch import Tensor

from dermdistill.losses.rules import Reduction, in_float32, reduce_images


@in_float32
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

    Examples:
        >>> import torch
        >>> from dermdistill.losses import soft_dice_loss
        >>> mask = torch.zeros(1, 1, 4, 4)
        >>> mask[..., :2] = 1
        >>> certain = 100 * (2 * mask - 1)
        >>> [round(float(soft_dice_loss(logits, mask)), 3) for logits in (certain, -certain)]
        [0.0, 1.0]
    """
    prob, mask = logits.sigmoid(), mask.to(logits.dtype)
    # Means and not sums: the same ratio, but ε does not depend on the image size.
    overlap = (prob * mask).mean(dim=(1, 2, 3))
    total = prob.square().mean(dim=(1, 2, 3)) + mask.square().mean(dim=(1, 2, 3))
    return reduce_images(1 - (2 * overlap + smooth) / (total + smooth), reduction)


@in_float32
def bce_loss(
    logits: Float[Tensor, "b 1 h w"], mask: Real[Tensor, "b 1 h w"], *, reduction: Reduction = "mean"
) -> Float[Tensor, "*images"]:
    """Binary cross-entropy of σ(logits) against a {0, 1} mask, mean over pixels; 0 or more.

    Args:
        logits: Any real number.
        mask: {0, 1}.
        reduction: ``mean`` over the images, or ``none``.
    """
    # −log of the true class's probability. torch's own takes the difference of two large numbers: 0 for −34.
    loss = -F.logsigmoid(torch.where(mask > 0.5, logits, -logits))
    return reduce_images(loss.mean(dim=(1, 2, 3)), reduction)


@in_float32
def focal_loss(
    logits: Float[Tensor, "b 1 h w"],
    mask: Real[Tensor, "b 1 h w"],
    *,
    gamma: float = 2.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*images"]:
    """Focal loss −(1 − p)^γ·log p of the true class, mean over pixels. γ = 0 is the binary cross-entropy.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 4 (no α: lesions are not rare enough to need it).

    Args:
        logits: Any real number.
        mask: {0, 1}.
        gamma: γ ≥ 0; the higher, the less do pixels count that are right already.
        reduction: ``mean`` over the images, or ``none``.
    """
    signed = torch.where(mask > 0.5, logits, -logits)
    # (1 − p)^γ through the logarithm: its gradient stays finite where p is 1, for every γ ≥ 0.
    loss = -(gamma * F.logsigmoid(-signed)).exp() * F.logsigmoid(signed)
    return reduce_images(loss.mean(dim=(1, 2, 3)), reduction)
