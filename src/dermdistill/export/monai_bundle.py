"""A MONAI bundle: the network with the files that MONAI's tools read and check.

Layout and fields: MONAI Bundle Specification (docs.monai.io, ``mb_specification``). The network is
TorchScript, so that whoever uses the bundle needs MONAI and PyTorch, and not this package. (What
``torch.export`` writes has no ``eval()``, which MONAI calls.)
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dermdistill._version import __version__
from dermdistill.artifacts.card import ModelCard
from dermdistill.core.files import write_json, write_text
from dermdistill.models.lesion_net import LesionNet
from dermdistill.models.onnx_graph import ExportNet

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
"""What ``monai.bundle verify_metadata`` downloads and checks the metadata against."""
NETWORK = "network_def"
"""The network's name in the bundle's config."""


def write_bundle(net: LesionNet, card: ModelCard, folder: Path) -> torch.jit.ScriptModule:
    """Write the bundle's files, and have MONAI build the network from them and run it.

    Args:
        net: The network.
        card: Its card: size, threshold, scores, who trained it on what.
        folder: Becomes the bundle's root.

    Returns:
        The network as a user of the bundle gets it: RGB float32 [n, 3, s, s] in [0, 1] → logits [n, 1, s, s].

    Raises:
        ValueError: MONAI's check of the network's input and output fails.
    """
    from monai.bundle.scripts import verify_net_in_out

    models, configs = folder / "models", folder / "configs"
    models.mkdir(parents=True)
    example = torch.rand(1, 3, card.input_size, card.input_size)
    traced = torch.jit.trace(ExportNet(net, card.input_size).eval(), example)
    torch.jit.save(traced, str(models / "model.ts"))
    torch.save(traced.state_dict(), models / "model.pt")
    write_json(configs / "metadata.json", _metadata(card))
    write_json(configs / "inference.json", _inference())
    card.write(folder / "docs" / "card.json")
    write_text(folder / "docs" / "README.md", _readme(card))
    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
    verify_net_in_out(
        net_id=NETWORK, meta_file=str(configs / "metadata.json"), device="cpu",
        config_file=str(configs / "inference.json"), bundle_root=str(folder),
    )  # fmt: skip
    return torch.jit.load(str(models / "model.ts"))


def _inference() -> dict[str, Any]:
    return {
        "imports": ["$import torch"],
        "bundle_root": ".",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        NETWORK: {"_target_": "torch.jit.load", "f": "$@bundle_root + '/models/model.ts'"},
        "network": f"$@{NETWORK}.to(@device)",
        "inferer": {"_target_": "monai.inferers.SimpleInferer"},
    }


def _metadata(card: ModelCard) -> dict[str, Any]:
    import monai

    side = [card.input_size, card.input_size]
    shown = {"spatial_shape": side, "dtype": "float32", "is_patch_data": False}
    image = {
        "type": "image", "format": "magnitude", "modality": "dermoscopy", "num_channels": 3,
        "value_range": [0, 1], "channel_def": {"0": "red", "1": "green", "2": "blue"}, **shown,
    }  # fmt: skip
    logit = {
        "type": "image", "format": "logits", "modality": "n/a", "num_channels": 1, "value_range": [],
        "channel_def": {"0": f"lesion, where its sigmoid is above {card.threshold}"}, **shown,
    }  # fmt: skip
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported from the run {card.recipe}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "required_packages_version": {},
        "task": "Outline of a skin lesion in a dermoscopic picture",
        "description": f"{card.model['arch']}, {card.parameters:,} parameters, trained with dermdistill on "
        f"{card.dataset['name']}. One logit per pixel.",
        "authors": "see docs/README.md",
        "copyright": "see docs/README.md",
        "data_source": f"{card.dataset['name']}, fingerprint {card.dataset['fingerprint']}",
        "data_type": "jpg, png",
        "intended_use": "Research and engineering. Not a medical device, not for diagnosis.",
        "eval_metrics": card.scores,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": logit}},
    }


def _readme(card: ModelCard) -> str:
    side = card.input_size
    return f"""# {card.recipe}

Not a medical device. For research and engineering; a person must check every outline.

`{card.model["arch"]}`, written by dermdistill {__version__}. `card.json` beside this file says what it was
trained on, how, and what it scored.

- **In**: RGB, float32, [n, 3, {side}, {side}] in [0, 1]. Normalisation is inside. Pictures are squashed to
  that square by Pillow's bilinear resizing; another filter moves the outline a little.
- **Out**: one logit per pixel; lesion where its sigmoid is above {card.threshold}. Resize the probability to
  the picture's size, not the mask.

```sh
python -m monai.bundle verify_net_in_out {NETWORK} --meta_file configs/metadata.json \\
  --config_file configs/inference.json
python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath schema.json
```

The second command downloads MONAI's schema.
"""
