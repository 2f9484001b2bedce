"""Building by name, the wrapper around every network, and the way to ONNX."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dermdistill.core.errors import ConfigError
from dermdistill.models import teacher
from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_macs, count_parameters
from dermdistill.models.unet import UNet

LITE = "tu-tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unet-w",), "Perhaps you meant unet-w8"),
        (("DeepLabV3+", "resnet18"), "Perhaps you meant DeepLabV3"),
        (("Unet", "resnet102"), "Perhaps you meant .*resnet101"),
        (("Unet", "tu-tf_efficientnet_lite00"), "tu-tf_efficientnet_lite0"),
        (("Unet",), "Unet needs an encoder"),
        (("DPT", "tu-vit_tiny_patch16_224"), "one size only"),
        (("unet-w4", "resnet18"), "no encoder to choose"),
        (("deeplabv3-torchvision", "resnet18"), "resnet50, resnet101"),
        (("Unet", "resnet18", None, "batch", "voc"), "no VOC classes"),
    ],
)
def test_wrong_names(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_model(*arguments)


def test_case_of_an_smp_name_does_not_matter():
    assert build_model("deeplabv3plus", LITE, "none").spec.arch == "DeepLabV3Plus"


def test_wrapper_normalises_and_has_no_state():
    net = build_model("unet-w4").eval()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = net.net((image - net.mean) / net.std)
        assert torch.equal(net(image), expected)
    assert {f"net.{name}" for name in net.net.state_dict()} == set(net.state_dict())


def test_padding_repeats_the_border_and_is_cropped():
    net = build_model("unet-w4").eval()
    image = torch.rand(1, 3, 40, 50)
    with torch.no_grad():
        padded = F.pad(image, (0, 14, 0, 8), mode="replicate")
        torch.testing.assert_close(net(image), net(padded)[..., :40, :50])


def test_copies_are_independent():
    """A deep copy must run with its own weights."""
    net = build_model("Unet", LITE).eval()
    twin = copy.deepcopy(net)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = net(image)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(net(image), before)
        assert not torch.equal(twin(image), before)


def test_voc_logit_is_one_minus_background():
    class_logits = 5 * torch.randn(2, 21, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    expected = 1 - class_logits.softmax(dim=1)[:, :1]
    torch.testing.assert_close(teacher.voc_to_lesion(class_logits).sigmoid(), expected)


def test_voc_teacher_is_the_library_with_its_classes_reduced():
    net = build_model("deeplabv3-torchvision", "resnet50", head="voc").eval()
    assert net.net.classifier[-1].weight.shape[0] == 21
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        class_logits = net.net((image - net.mean) / net.std)["out"]
        # Reduced before resizing here, after it there: equal where both are at 1/8 resolution.
        coarse = teacher.torchvision_voc_logits(net.net, (image - net.mean) / net.std)
        whole = F.interpolate(coarse, (64, 64), mode="bilinear", align_corners=False)
    assert class_logits.shape == (1, 21, 64, 64)
    assert torch.equal(net(image).detach(), whole)


def test_smp_forward_is_the_library_s_own():
    net = build_model("DeepLabV3Plus", LITE).eval()
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(image), net.net((image - net.mean) / net.std))


def test_counts():
    net = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_parameters(net) == 3 * 5 * 9
    assert count_macs(net, 10) == 3 * 5 * 9 * 100
    net.weight.requires_grad_(False)
    assert count_parameters(net) == 0


@pytest.mark.parametrize("width", [1, 3, 4, 8, 18, 22])
def test_group_norm_fits_every_width(width):
    assert UNet(width, depth=2, norm="group")(torch.rand(1, 3, 8, 8)).shape == (1, 1, 8, 8)


def test_group_norm_does_not_see_the_batch():
    net = build_model("unet-w4", norm="group").train()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(net(images)[:1], net(images[:1]), rtol=1e-4, atol=1e-5)


def test_unet_refuses_nonsense():
    with pytest.raises(ValueError, match="at least 1"):
        UNet(0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's own, and none of our business
# Plain "unet-w4" is tiny_onnx, which others test; "small" and "base" have no operator that "nano" has not.
@pytest.mark.parametrize("arguments", [("unet-w4", None, None, "group"), ("nano",), ("FPN", LITE)])
def test_onnx_runtime_gives_the_same(arguments, tmp_path):
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    import onnxruntime

    torch.manual_seed(0)
    net = build_model(*arguments).eval()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "net.onnx"
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.onnx.export(
        net, (images[:2],), path, dynamo=True, dynamic_shapes=shapes, input_names=["image"], verbose=False
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(images).numpy()
    (found,) = session.run(None, {"image": images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
