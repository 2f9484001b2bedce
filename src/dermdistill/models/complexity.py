"""How large a network is: its trainable values, and its multiply-accumulates for one image."""

from __future__ import annotations

import torch
from torch import nn

from dermdistill.models.lite_unet import merge_branches


def count_parameters(net: nn.Module) -> int:
    """Number of trainable values; our students' branches (`lite_unet.RepBlock`) count as they are trained.

    Examples:
        >>> from dermdistill import build_model, count_parameters
        >>> count_parameters(build_model("nano"))
        99028
    """
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def count_macs(net: nn.Module, size: int) -> int:
    """Multiply-accumulates of the convolutions and matrix products for one image of size × size, in use.

    In use our students' branches are one convolution (`lite_unet.merge_branches`).

    Examples:
        >>> from dermdistill import build_model, count_macs
        >>> round(count_macs(build_model("nano"), 256) / 1e9, 3)
        0.057
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(net.parameters()).device
    used = merge_branches(net)
    training = used.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        used.eval()(torch.zeros(1, 3, size, size, device=device))
    used.train(training)
    return int(counter.get_total_flops()) // 2
