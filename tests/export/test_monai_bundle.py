"""The MONAI bundle: MONAI's own checks accept it, and its network computes what ours does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dermdistill.core.files import read_json, write_json
from dermdistill.export import targets
from dermdistill.models.torch_backend import load_run

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's and TorchScript's own

TEXT, TABLE = {"type": "string"}, {"type": "object"}
TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {"num_channels": {"type": "integer"}, "spatial_shape": {"type": "array"}, "dtype": TEXT},
}
NETWORK = {
    "type": "object",
    "required": ["inputs", "outputs"],
    "properties": {
        side: {"type": "object", "minProperties": 1, "additionalProperties": TENSOR}
        for side in ("inputs", "outputs")
    },
}
MANDATORY = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version"), TEXT),
    **dict.fromkeys(("task", "description", "authors", "copyright"), TEXT),
    "required_packages_version": TABLE,
    "network_data_format": NETWORK,
}
"""What the bundle specification asks for; MONAI's own schema would be downloaded."""


@pytest.fixture
def bundle(tiny_run: Path, tmp_path: Path) -> Path:
    pytest.importorskip("monai", reason="the extra monai is not installed")
    net, card = load_run(tiny_run)
    path, run = targets.convert("monai", net, card, tmp_path / "student.onnx", tmp_path)
    batch = np.random.default_rng(0).random((3, 3, 64, 64), dtype=np.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(run(batch), net(torch.from_numpy(batch)).numpy(), atol=1e-4)
    return path


def test_monai_accepts_the_bundle(bundle: Path, tmp_path: Path) -> None:
    from monai.bundle.scripts import verify_metadata, verify_net_in_out

    assert {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()} == {
        "configs/metadata.json", "configs/inference.json", "models/model.ts", "models/model.pt",
        "docs/README.md", "docs/card.json",
    }  # fmt: skip
    config, meta = bundle / "configs" / "inference.json", bundle / "configs" / "metadata.json"
    for network in ("network_def", "network"):
        verify_net_in_out(network, str(meta), str(config), device="cpu", bundle_root=str(bundle))
    schema = tmp_path / "schema.json"
    write_json(schema, {"type": "object", "properties": MANDATORY, "required": [*MANDATORY]})
    verify_metadata(str(meta), filepath=schema)
    told = read_json(meta)
    told["network_data_format"]["outputs"]["pred"]["num_channels"] = "one"
    write_json(meta, told)
    with pytest.raises(ValueError, match="schema"):
        verify_metadata(str(meta), filepath=schema)
    told["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    write_json(meta, told)
    with pytest.raises(ValueError, match="channel"):
        verify_net_in_out("network_def", str(meta), str(config), device="cpu", bundle_root=str(bundle))


def test_the_weights_are_a_plain_state_dict(bundle: Path) -> None:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    loaded = torch.jit.load(str(bundle / "models" / "model.ts"))
    loaded.load_state_dict(state)
