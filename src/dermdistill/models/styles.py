"""A student that is told how masks are drawn: a bias for each style, which folds into biases that are there.

Masks differ by the hand and the tool that drew them. A style adds one vector to the outputs of the decoder's
lateral convolutions and of the head (a conditional bias: FiLM without its scale, Perez et al. 2018, arXiv
1709.07871). Once a style is chosen, the vectors are added to those layers' own biases: the network that is
deployed has the same size and speed as one that knows no styles.
"""

from __future__ import annotations

import copy

import torch

from dermdistill.artifacts.card import check_style
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.lite_unet import LiteUNet


def fold_style(net: LesionNet, style: str | None) -> LesionNet:
    """A copy for use that draws in one style, or in none, and knows of no others.

    Args:
        net: A network with styles, or one without, which is returned itself where ``style`` is None.
        style: One of its styles; None: not told.

    Raises:
        UsageError: It does not know the style.
    """
    check_style(style, net.styles)
    if not net.styles:
        return net
    twin = copy.deepcopy(net)
    assert isinstance(twin.net, LiteUNet)
    with torch.no_grad():
        for name, values in bias_shifts(net, style).items():
            bias = twin.net.get_parameter(name)
            bias.add_(torch.tensor(values).to(bias))
    twin.net.style_bias, twin.styles = None, ()
    return twin


def bias_shifts(net: LesionNet, style: str | None) -> dict[str, list[float]]:
    """What a style adds to the biases of ``net.net``, by their names; nothing for None."""
    if style is None:
        return {}
    row = net.styles.index(style)
    assert isinstance(net.net, LiteUNet)
    assert net.net.style_bias is not None
    tables = list(net.net.style_bias.tables)
    names = [*(f"lateral.{level}.bias" for level in range(len(tables) - 1)), "head.bias"]
    return {name: table[row].tolist() for name, table in zip(names, tables, strict=True)}
