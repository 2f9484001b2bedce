"""``dermdistill info``."""

# No `from __future__ import annotations` here: tyro reads the annotations, which name its own types; it is
# imported inside the verb, so that `dermdistill --help` stays quick.

import json
import os
from collections.abc import Callable
from typing import Annotated, Any

from dermdistill import config
from dermdistill.cli.common import need_train_extra
from dermdistill.core.errors import MissingExtraError


def command() -> Callable[..., int]:
    """The verb as a function: its signature and docstring are the command line's."""
    import tyro

    def info(json_output: Annotated[bool, tyro.conf.arg(name="json")] = False) -> int:
        """Versions, devices, what is installed.

        Args:
            json_output: Print JSON.
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
        if json_output:
            print(json.dumps(found, indent=2))
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

    return info
