"""Losses on one logit per pixel, as pure functions: supervised ones and distillation ones."""

from __future__ import annotations

from dermdistill.losses.distillation import (
    bernoulli_kl_loss,
    boundary_band,
    boundary_kl_loss,
    channel_wise_loss,
)
from dermdistill.losses.segmentation import bce_loss, focal_loss, soft_dice_loss

__all__ = [
    "bce_loss",
    "bernoulli_kl_loss",
    "boundary_band",
    "boundary_kl_loss",
    "channel_wise_loss",
    "focal_loss",
    "soft_dice_loss",
]
