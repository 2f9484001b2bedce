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

    facts: dict[str, Any] = {
        "versions": versions(),
        "cpu_count": os.cpu_count(),
        "gpus": [],
        "train": True,
    }
    try:
        need_train_extra("train")
    except MissingExtraError:
        facts["train"] = False
    else:
        import torch

        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["mps"] = torch.backends.mps.is_available()
    facts["recipes"] = [path.stem for path in config.shipped_recipes()]
    facts["studies"] = [path.stem for path in config.shipped_studies()]
    if json:
        print_json(facts)
        return 0
    for name, version in facts["versions"].items():
        print(f"{name:<30}{version}")
    print(f"{'CPU threads':<30}{facts['cpu_count']}")
    print(f"{'GPUs':<30}{', '.join(facts['gpus']) or 'none'}")
    extra = "installed" if facts["train"] else "absent: pip install 'dermdistill[train]'"
    print(f"{'dermdistill[train]':<30}{extra}")
    print(f"{'recipes':<30}{', '.join(facts['recipes'])}")
    print(f"{'studies':<30}{', '.join(facts['studies'])}")
    return 0
