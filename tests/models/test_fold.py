"""Folded networks answer what they answered, and what cannot be folded is left alone."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from dermdistill.models import batchnorm_folding
from dermdistill.models.batchnorm_folding import fold_batch_norm
from dermdistill.models.build import build_model
from dermdistill.models.lesion_net import LesionNet, ModelSpec
from dermdistill.models.pretrained import IMAGENET


def with_random_statistics(net: LesionNet) -> LesionNet:
    """Batch norms as after a training: a fold that forgets mean, variance, scale or shift shows."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@torch.no_grad()
def assert_equal_answers(one: LesionNet, other: LesionNet) -> None:
    image = torch.rand(2, 3, 80, 112, generator=torch.Generator().manual_seed(1))
    expected, found = one(image), other(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("DeepLabV3Plus", "tu-tf_efficientnet_lite0"),  # timm: norm and activation are one module
        ("DeepLabV3Plus", "resnet18"),
        ("deeplabv3-torchvision", "resnet50"),
        ("small", None),
        ("unet-w4", None),
    ],
)
def test_all_is_folded_and_the_answers_are_the_same(arch: str, encoder: str | None) -> None:
    torch.manual_seed(0)
    net = with_random_statistics(build_model(arch, encoder))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    folded = fold_batch_norm(net)
    assert norms(net) > 0
    assert norms(folded) == 0
    assert_equal_answers(net, folded)
    assert not folded.training
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Awkward(nn.Module):
    """One foldable pair, and what must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.foldable, self.its_norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two_readers, self.norm_of_one = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.in_between, self.norm_after_relu = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.twice, self.norm_of_twice = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.its_norm(self.foldable(x))
        y = self.two_readers(x)
        x = self.norm_of_one(y) + y
        x = self.norm_after_relu(self.in_between(x).relu_())
        x = self.norm_of_twice(self.twice(x)) + self.norm_of_twice(self.twice(x + 1))
        logits: Tensor = self.head(x)
        return logits


def test_a_norm_is_left_where_the_convolution_has_another_reader(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    net = LesionNet(Awkward(), Awkward.forward, 1, IMAGENET, ModelSpec("unet-w4"))
    folded = fold_batch_norm(with_random_statistics(net))
    left = {name for name, module in folded.net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert left == {"norm_of_one", "norm_after_relu", "norm_of_twice"}
    assert "1 of 4 batch norms folded" in caplog.text
    assert_equal_answers(net, folded)


def test_a_network_without_batch_norm_is_used_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    net = build_model("unet-w4", norm="group").eval()
    assert_equal_answers(net, fold_batch_norm(net))
    assert "no batch norm can be folded" in caplog.text


def test_a_fold_that_changes_the_answers_is_not_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget_the_statistics(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
        return conv

    monkeypatch.setattr(batchnorm_folding, "fuse_conv_bn_eval", forget_the_statistics)
    net = with_random_statistics(build_model("unet-w4"))
    folded = fold_batch_norm(net)
    assert norms(folded) == norms(net)
    assert_equal_answers(net, folded)
    assert "it is used unfolded" in caplog.text
