"""Settings of earlier versions: recipes, studies and runs that hold them go on loading."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

_MEASURED = "it was measured to be no help (docs/design/students.md)"
REMOVED = {
    "augment.mixup": _MEASURED,
    "augment.cutout": _MEASURED,
    "trainer.ema": _MEASURED,
    "kd.attention": _MEASURED,
}
"""Settings that are gone, by dotted name, and why. Each was off at 0."""


def current_keys(tree: Any, source: str) -> Any:
    """A recipe's tree of plain values without the settings that are gone.

    One that was off is dropped silently, one that was on with a warning that names it.

    Args:
        tree: Settings by group, as in YAML; it stays as it is.
        source: Where it is from, for the warning.
    """
    if not isinstance(tree, Mapping):
        return tree  # whoever validates it says what is wrong
    for name, value in removed_settings(tree).items():
        logger.warning("%s: %s: %s is ignored: the setting is gone, %s", source, name, value, REMOVED[name])
    found = copy.deepcopy(dict(tree))
    for name in REMOVED:
        group, key = name.split(".")
        if isinstance(found.get(group), dict):
            found[group].pop(key, None)
    return found


def removed_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a recipe's tree that are gone and were switched on, by dotted name.

    >>> removed_settings({"trainer": {"ema": 0.995}, "augment": {"mixup": 0.0}})
    {'trainer.ema': 0.995}
    """
    found = {}
    for name in REMOVED:
        group, key = name.split(".")
        values = tree.get(group)
        if isinstance(values, Mapping) and values.get(key):
            found[name] = values[key]
    return found
