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

RENAMED_TEACHER_LOGITS = {"online": "online", "kept": "cached"}
"""``teacher.answers`` is ``teacher.logits`` now: its values of before and of now."""


def current_keys(tree: Any, source: str) -> Any:
    """A recipe's tree of plain values without the settings that are gone, and with new names for old ones.

    What was off or at its default is changed silently, all else with a warning that names it.

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
    teacher = found.get("teacher")
    if isinstance(teacher, dict) and "answers" in teacher:
        old = teacher.pop("answers")
        teacher["logits"] = new = RENAMED_TEACHER_LOGITS.get(old, old) if isinstance(old, str) else old
        if old != "online":
            logger.warning("%s: teacher.answers: %s is now teacher.logits: %s", source, old, new)
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
