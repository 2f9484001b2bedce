"""A student with styles: untold it is the plain one, told it is the one whose biases hold the style."""

from __future__ import annotations

import pytest
import torch

from dermdistill.core.errors import ConfigError, UsageError
from dermdistill.models.build import build_model
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.styles import bias_shifts, fold_style

STYLES = ("autofill", "points")


@pytest.fixture
def net() -> LesionNet:
    torch.manual_seed(0)
    net = build_model("nano", styles=STYLES).eval()
    for table in net.net.style_bias.parameters():
        torch.nn.init.normal_(table, std=0.3)
    return net


def test_styles_begin_as_nothing() -> None:
    torch.manual_seed(0)
    plain = build_model("nano").eval()
    torch.manual_seed(0)
    styled = build_model("nano", styles=STYLES).eval()
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(styled(image), plain(image))
    assert torch.equal(styled(image, torch.eye(2)), plain(image))


@torch.no_grad()
def test_a_style_folds_into_the_biases(net: LesionNet) -> None:
    image = torch.rand(2, 3, 50, 70)
    untold = net(image)
    for i, style in enumerate(STYLES):
        code = torch.zeros(2, 2)
        code[:, i] = 1
        told = net(image, code)
        assert (told - untold).abs().max() > 0.05
        folded = fold_style(net, style)
        torch.testing.assert_close(folded(image), told, atol=1e-4, rtol=1e-4)
        assert not any("style" in name for name in folded.net.state_dict())
        assert folded.styles == ()
    mixed = net(image, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # each image its own
    torch.testing.assert_close(mixed[1], untold[1])
    torch.testing.assert_close(fold_style(net, None)(image), untold)


def test_the_shifts_name_biases_that_are_there(net: LesionNet) -> None:
    shifts = bias_shifts(net, "points")
    assert list(shifts) == [*(f"lateral.{i}.bias" for i in range(len(net.net.lateral))), "head.bias"]
    for name, values in shifts.items():
        assert len(values) == net.net.get_parameter(name).numel()
    assert bias_shifts(net, None) == {}


def test_what_cannot_be_told(net: LesionNet) -> None:
    with pytest.raises(UsageError, match=r"(?s)no style 'flood'.*autofill, points"):
        fold_style(net, "flood")
    with pytest.raises(UsageError, match="not told of styles"):
        fold_style(build_model("nano"), "points")
    with pytest.raises(ConfigError, match="cannot be told styles"):
        build_model("unet-w4", styles=STYLES)
