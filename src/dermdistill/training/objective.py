"""The objective as the settings define it: weighted, named losses out of the pure functions of `losses`."""

from __future__ import annotations

import torch
from torch import Tensor

from dermdistill import losses
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.training.user_loss import UserLoss

Losses = dict[str, Tensor]
"""Weighted losses by name, one value per image [b]; the mean over the batch of their sum is the objective."""


def supervised_losses(logits: Tensor, mask: Tensor, has_mask: Tensor, *, loss: LossSettings) -> Losses:
    """Weighted supervised losses [b], those of weight 0 left out; images without a mask have none.

    The values are scaled so that their mean over the batch is the mean over the images with a mask: its size
    does not depend on how many there are without.

    Args:
        logits: Of the network that learns, [b, 1, h, w].
        mask: {0, 1} [b, 1, h, w].
        has_mask: bool [b].
        loss: The weights.
    """
    # Their gradients are summed before those of other losses are added: the order of earlier versions, so
    # that a training gives the same weights bit for bit.
    logits = logits.view_as(logits)
    found: Losses = {}
    if loss.dice:
        found["dice_loss"] = loss.dice * losses.soft_dice_loss(logits, mask, reduction="none")
    if loss.bce:
        found["bce_loss"] = loss.bce * losses.bce_loss(logits, mask, reduction="none")
    if loss.focal:
        focal = losses.focal_loss(logits, mask, gamma=loss.focal_gamma, reduction="none")
        found["focal_loss"] = loss.focal * focal
    image_weight = has_mask.float() / has_mask.float().mean()
    return {name: value * image_weight for name, value in found.items()}


def distilled_losses(
    logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    has_mask: Tensor,
    *,
    kd: KDSettings,
    extra: UserLoss | None = None,
) -> Losses:
    """Weighted distillation losses [b], those of weight 0 left out; of all images, with a mask or without.

    Where there is no mask, the boundary loss and a user's own take the teacher's.

    Args:
        logits: Of the student, [b, 1, h, w].
        teacher_logits: [b, 1, h, w].
        mask: {0, 1} [b, 1, h, w].
        has_mask: bool [b].
        kd: The weights and temperatures.
        extra: The loss that ``kd.extra`` names.
    """
    found: Losses = {}
    if kd.kl:
        kl = losses.bernoulli_kl_loss(logits, teacher_logits, kd.temperature, reduction="none")
        found["kl_loss"] = kd.kl * kl
    if kd.channel_wise:
        temperature = kd.channel_wise_temperature
        channel_wise = losses.channel_wise_loss(logits, teacher_logits, temperature, reduction="none")
        found["channel_wise_loss"] = kd.channel_wise * channel_wise
    if kd.boundary or extra is not None:
        teacher_mask = (teacher_logits > 0).to(mask.dtype)
        outline = torch.where(has_mask.view(-1, 1, 1, 1), mask, teacher_mask)
    if kd.boundary:
        boundary = losses.boundary_kl_loss(
            logits, teacher_logits, outline, kd.temperature, kd.boundary_width, reduction="none"
        )
        found["boundary_loss"] = kd.boundary * boundary
    if extra is not None and kd.extra_weight:
        found[extra.name] = kd.extra_weight * extra(logits, teacher_logits, outline)
    return found
