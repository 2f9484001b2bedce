"""Every error a user can meet, as one tree.

::

    DermDistillError            exit code 1: something failed
    ├── UsageError              exit code 2: the command or a setting is wrong
    │   └── ConfigError         a recipe or a flag does not fit its field
    ├── DataError               an image, mask, manifest or data set is not as expected
    │   ├── ArchiveError        a download or archive is broken, unsafe or does not match its checksum
    │   └── MismatchError       two stages disagree about the data or model they were made from
    ├── WeightsError            pretrained or trained weights are missing or do not fit
    ├── ParityError             an exported file does not answer as the network it was made from
    ├── MissingExtraError       an optional part of the installation is needed
    └── TrainingError           training cannot go on (NaN loss, batch too small …)
        └── Interrupted         stopped on request; everything is saved (exit code 130)

Each message says what was found, what was expected, and what to do next.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DermDistillError(Exception):
    """Base of all errors raised on purpose.

    Args:
        found: What was found, as a sentence.
        expected: What was expected instead, as a sentence (may be empty).
        mend: What the user can do now, as a sentence (may be empty).
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, expected: str = "", mend: str = "") -> None:
        self.found, self.expected, self.mend = found, expected, mend
        super().__init__(found, expected, mend)

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.mend:
            lines.append(f"  to mend:  {self.mend}")
        return "\n".join(lines)


class UsageError(DermDistillError):
    """The command line asks for something that does not exist or does not go together."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe or flag has an unknown field or a value outside its range."""


class DataError(DermDistillError):
    """An image, mask, manifest or prepared data set is not as expected."""


class ArchiveError(DataError):
    """A download or archive is incomplete, does not match its checksum, or is unsafe to unpack."""


class MismatchError(DataError):
    """Two stages were made from different data, settings or models."""


class WeightsError(DermDistillError):
    """Pretrained or trained weights cannot be found, read, or do not fit the model."""


class ParityError(DermDistillError):
    """An exported file does not answer as the network it was made from.

    Attributes:
        facts: What was measured, as plain values (``parity-failed.json``).
    """

    def __init__(self, found: str, expected: str = "", mend: str = "", *, facts: dict[str, Any]) -> None:
        super().__init__(found, expected, mend)
        self.facts = facts


class MissingExtraError(DermDistillError):
    """A package of an optional extra (``[train]``) is not installed."""


class TrainingError(DermDistillError):
    """Training cannot go on."""


class Interrupted(TrainingError):  # noqa: N818 (it is a request that was met, not an error)
    """Training was stopped by Ctrl-C or SIGTERM; ``last.ckpt`` holds everything to go on."""

    exit_code = 130
