"""One suite for every architecture."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_macs, count_parameters
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.weights import load_weights

# name → arguments, and mean and deviation of the logits of fixed images under `fix_weights`.
CASES = {
    "nano": (("nano",), [0.192211, 3.34970]),
    "small": (("small",), [0.101627, 3.22999]),
    "base": (("base",), [0.462201, 2.89208]),
    "unet-w4": (("unet-w4",), [0.230894, 0.384938]),
    "unet-w8": (("unet-w8",), [-0.0135716, 0.491192]),
    "unet-w16": (("unet-w16",), [0.471197, 0.674066]),
    "unet-w4-group": (("unet-w4", None, None, "group"), [0.231412, 0.385588]),
    "deeplabv3plus": (("DeepLabV3Plus", "tu-tf_efficientnet_lite0"), [0.165465, 0.246085]),
    "unet-smp": (("Unet", "mobilenet_v2"), [0.0611055, 2.54808]),
    "unet-timm": (("Unet", "timm-tf_efficientnet_lite0"), [-0.0890736, 2.27772]),
    "fpn": (("FPN", "resnet18"), [0.238702, 0.250769]),
    "pan": (("PAN", "tu-tf_efficientnet_lite0"), [0.163151, 0.677818]),
    "pspnet": (("PSPNet", "resnet18"), [0.0336544, 1.15427]),
    "segformer": (("Segformer", "mit_b0"), [-0.0309627, 0.26526]),
    "upernet": (("UPerNet", "tu-tf_efficientnet_lite0"), [0.0881367, 0.0775456]),
    "torchvision": (("deeplabv3-torchvision", "resnet50"), [-0.195703, 0.236351]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[str, LesionNet]:
    torch.manual_seed(0)
    return request.param, build_model(*CASES[request.param][0])


@pytest.fixture
def net(case) -> LesionNet:
    return copy.deepcopy(case[1])


def make_images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def fix_weights(net: torch.nn.Module) -> None:
    """Weights that depend on the architecture alone (sines of the index), not on how a library draws them.

    Batch norm takes the statistics of the batch, which keeps the signal's size; all else is in eval mode.
    In float64, since deep networks with such weights magnify rounding.
    """
    net.eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    for number, parameter in enumerate(net.parameters()):
        if parameter.ndim > 1:
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(index * 0.7 + number) * math.sqrt(4 / parameter[0].numel())
            parameter.data.copy_(values.view_as(parameter))


def test_backward(net):
    """A step in training mode on a small batch, loss finite, gradients finite and not all zero."""
    net.train()
    logits = net(make_images(2, 64, 64))
    logits.square().mean().backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert logits.dtype == torch.float32
    # PSPNet leaves the deeper half of its encoder idle; the others use (nearly) all they have.
    share = 0.3 if net.spec.arch == "PSPNet" else 0.95
    assert len(gradients) > share * len(list(net.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)
    assert sum(bool(g.abs().sum() > 0) for g in gradients) > 0.95 * len(gradients)


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (17, 70), (5, 3), (1, 1)])
def test_any_size_and_a_batch_of_one(net, size):
    with torch.no_grad():
        logits = net.eval()(make_images(1, *size))
    assert logits.shape == (1, 1, *size)
    assert torch.isfinite(logits).all()


def test_smallest_training_batch(net):
    """`min_batch` is true: that many images train, and one fewer is an error of batch norm."""
    net.train()
    assert net.min_batch in (1, 2)
    assert torch.isfinite(net(make_images(net.min_batch, 20, 20))).all()
    if net.min_batch == 2:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            net(make_images(1, 20, 20))


def test_eval_does_not_mix_the_images_of_a_batch(net):
    images = make_images(3, 64, 64)
    with torch.no_grad():
        together = net.eval()(images)
        alone = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_save_and_load(case, net, tmp_path):
    """The inner state_dict is all there is: loaded into a freshly built net it gives the same logits."""
    assert not net._buffers.keys() & set(net.state_dict())
    path = tmp_path / "weights.pth"
    torch.save(net.net.state_dict(), path)
    torch.manual_seed(99)
    other = build_model(**net.spec.to_dict())
    images = make_images(1, 64, 64)
    with torch.no_grad():
        expected = net.eval()(images)
        assert not torch.equal(other.eval()(images), expected)
        load_weights(other, path)
        assert torch.equal(other(images), expected)


def test_golden_value(case, net):
    """The architecture has not changed: fixed weights give fixed logits."""
    fix_weights(net.double())
    with torch.no_grad():
        logits = net(make_images(2, 64, 64).double())
    assert [logits.mean().item(), logits.std().item()] == pytest.approx(CASES[case[0]][1], rel=1e-4)


def test_channels_last_gives_the_same(net):
    images = make_images(2, 64, 64)
    with torch.no_grad():
        expected = net.eval()(images)
        last = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "millions", "gigamacs"),
    [
        ("nano", 0.099, 0.056),
        ("small", 0.293, 0.109),
        ("base", 1.457, 0.596),
        ("unet-w4", 0.12, 0.20),
        ("unet-w8", 0.49, 0.77),
        ("unet-w16", 1.94, 3.03),
    ],
)
def test_family_has_the_announced_size(arch, millions, gigamacs):
    net = build_model(arch)
    assert count_parameters(net) / 1e6 == pytest.approx(millions, abs=0.005)
    assert count_macs(net, 256) / 1e9 == pytest.approx(gigamacs, abs=0.006)
    assert net.training, "counting leaves the mode as it was"
