"""Losses on one logit per pixel, as pure functions: supervised terms and distillation terms."""

from __future__ import annotations

from dermdistill.losses.segmentation import (
    bce_loss,
    bernoulli_kl_loss,
    boundary_band,
    boundary_kl_loss,
    channel_wise_loss,
    focal_loss,
    soft_dice_loss,
)

__all__ = [
    "bce_loss",
    "bernoulli_kl_loss",
    "boundary_band",
    "boundary_kl_loss",
    "channel_wise_loss",
    "focal_loss",
    "soft_dice_loss",
]
