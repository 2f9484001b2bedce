"""The objective as the settings say it: weighted, named terms out of the pure functions of losses.py."""

from __future__ import annotations

from torch import Tensor

from dermdistill import losses
from dermdistill.config.settings import KDSettings, LossSettings
from dermdistill.training.acceleration.cuda_graphs import Terms


def supervised_terms(logits: Tensor, mask: Tensor, *, loss: LossSettings) -> Terms:
    """Weighted supervised terms [b], those of weight 0 left out."""
    terms: Terms = {}
    if loss.dice:
        terms["dice_loss"] = loss.dice * losses.soft_dice_loss(logits, mask, reduction="none")
    if loss.bce:
        terms["bce_loss"] = loss.bce * losses.bce_loss(logits, mask, reduction="none")
    if loss.focal:
        focal = losses.focal_loss(logits, mask, gamma=loss.focal_gamma, reduction="none")
        terms["focal_loss"] = loss.focal * focal
    return terms


def distilled_terms(logits: Tensor, teacher_logits: Tensor, mask: Tensor, *, kd: KDSettings) -> Terms:
    """Weighted distillation terms [b], those of weight 0 left out."""
    terms: Terms = {}
    if kd.kl:
        kl = losses.bernoulli_kl_loss(logits, teacher_logits, kd.temperature, reduction="none")
        terms["kl_loss"] = kd.kl * kl
    if kd.channel_wise:
        temperature = kd.channel_wise_temperature
        channel_wise = losses.channel_wise_loss(logits, teacher_logits, temperature, reduction="none")
        terms["channel_wise_loss"] = kd.channel_wise * channel_wise
    if kd.boundary:
        boundary = losses.boundary_kl_loss(
            logits, teacher_logits, mask, kd.temperature, kd.boundary_width, reduction="none"
        )
        terms["boundary_loss"] = kd.boundary * boundary
    return terms
