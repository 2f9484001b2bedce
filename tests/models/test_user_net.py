"""A network of the user's own: built with its options, checked by one forward pass, wrapped as all are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dermdistill.core.errors import ConfigError, UsageError
from dermdistill.core.files import hash_file
from dermdistill.models.build import build_model
from dermdistill.models.user_net import check_output
from usercode import write_network


def test_options_channel_and_any_size(tmp_path: Path) -> None:
    file = write_network(tmp_path)
    net = build_model(f"{file}:TinyNet", options={"width": 6, "classes": 3}, channel=2).eval()
    check_output(net, f"{file}:TinyNet", 50)
    assert net.net.head.weight.shape == (3, 6, 1, 1)
    assert net.spec.to_dict() == {
        "arch": "my_net.py:TinyNet", "encoder": None, "norm": "batch", "head": "lesion",
        "options": {"width": 6, "classes": 3}, "channel": 2, "file_sha256": hash_file(Path(file)),
    }  # fmt: skip
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(net(image), net.net((image - net.mean) / net.std)[:, 2:])
        assert net(torch.rand(1, 3, 50, 70)).shape == (1, 1, 50, 70)
    assert net.min_batch == 2, "it has batch norm"


def test_its_stride_may_be_told(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from torch import nn\ndef conv(): return nn.Conv2d(3, 1, 1)\n"
        "def eight():\n    net = conv()\n    net.stride = 8\n    return net\n",
        encoding="utf-8",
    )
    assert build_model(f"{file}:conv").stride == 32, "a convolution's own stride is a tuple"
    assert build_model(f"{file}:eight").stride == 8
    assert build_model(f"{file}:conv").min_batch == 1


@pytest.mark.parametrize(
    ("name", "options", "channel", "told"),
    [
        ("Dict", {}, None, r"returns dict with out, aux\."),
        ("Tuple", {}, None, r"returns tuple\."),
        ("Flat", {}, None, r"returns \[1, 64, 64\] for images \[1, 3, 64, 64\]"),
        ("Small", {}, None, r"returns 16×16 pixels for 64×64(?s:.*)interpolate"),
        ("TinyNet", {"classes": 2}, None, r"returns 2 channels(?s:.*)--student.channel 0 to 1"),
        ("TinyNet", {"classes": 2}, 2, r"--student.channel is 2, and (?s:.*)0 to 1"),
        ("Broken", {}, None, r"my_net\.py, line 41: RuntimeError"),
        ("Infinite", {}, None, "not all finite"),
        ("nothing", {}, None, "returns int"),
        ("TinyNet", {"with": 3}, None, r"my_net\.py: TypeError: .*'with'"),
        ("absent", {}, None, "has no function 'absent'"),
    ],
)
def test_what_is_no_network_is_told_in_one_line(
    name: str, options: dict, channel: int | None, told: str, tmp_path: Path
) -> None:
    source = f"{write_network(tmp_path)}:{name}"
    with pytest.raises(UsageError, match=told) as raised:
        check_output(build_model(source, options=options, channel=channel), source, 64)
    assert "\n" not in raised.value.found


def test_the_check_changes_nothing(tmp_path: Path) -> None:
    source = f"{write_network(tmp_path)}:TinyNet"
    net = build_model(source).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    check_output(net, source, 64)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_options_are_of_own_networks() -> None:
    with pytest.raises(ConfigError, match="takes no options"):
        build_model("nano", options={"width": 3})
