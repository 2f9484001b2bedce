"""``dermdistill info``."""

from __future__ import annotations

import os
from typing import Any

from dermdistill import config
from dermdistill.cli.common import need_train_extra, print_json
from dermdistill.core.errors import MissingExtraError


def info(json: bool = False) -> int:
    """Versions, devices, what is installed.

    Args:
        json: Print JSON.
    """
    from dermdistill.artifacts.card import versions

    found: dict[str, Any] = {
        "versions": versions(),
        "cpu_count": os.cpu_count(),
        "gpus": [],
        "train": True,
    }
    try:
        need_train_extra("train")
    except MissingExtraError:
        found["train"] = False
    else:
        import torch

        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["mps"] = torch.backends.mps.is_available()
    found["recipes"] = [path.stem for path in config.shipped_recipes()]
    found["studies"] = [path.stem for path in config.shipped_studies()]
    if json:
        print_json(found)
        return 0
    for name, version in found["versions"].items():
        print(f"{name:<30}{version}")
    print(f"{'CPU threads':<30}{found['cpu_count']}")
    print(f"{'GPUs':<30}{', '.join(found['gpus']) or 'none'}")
    extra = "installed" if found["train"] else "absent: pip install 'dermdistill[train]'"
    print(f"{'dermdistill[train]':<30}{extra}")
    print(f"{'recipes':<30}{', '.join(found['recipes'])}")
    print(f"{'studies':<30}{', '.join(found['studies'])}")
    return 0
