"""Every error a user can meet, as one tree.

::

    DermDistillError            exit code 1: something failed
    ├── UsageError              exit code 2: the command or a setting is wrong
    │   └── ConfigError         a recipe or a flag does not fit its field
    ├── DataError               an image, mask, manifest or data set is not as expected
    │   ├── ArchiveError        a download or archive is broken, unsafe or does not match its checksum
    │   └── MismatchError       two stages disagree about the data or model they were made from
    ├── WeightsError            pretrained or trained weights are missing or do not fit
    ├── ParityError             an exported file does not compute what its network does
    ├── MissingExtraError       an optional part of the installation is needed
    └── TrainingError           training cannot go on (NaN loss, batch too small …)
        └── Interrupted         stopped on request; everything is saved (exit code 130)

Each message says what was found, what was expected, and what to do next (a test reads every raise site).
The sections ``Cause`` and ``Fix`` of a class make its row in the documentation
(``docs/reference/errors.md``).
"""

from __future__ import annotations

from typing import Any, ClassVar


class DermDistillError(Exception):
    """Base of all errors raised on purpose; by itself, a step that another program or library refused.

    Cause:
        A process of its own ended with an error, or a library here cannot do what is asked.

    Fix:
        The message names the program or version, and what works instead.

    Args:
        found: What was found, as a sentence.
        expected: What was expected instead, as a sentence (empty for a stop on request).
        fix: What the user can do now, as a sentence.

    Examples:
        >>> from dermdistill import DermDistillError, load_recipe
        >>> try:
        ...     load_recipe("isic2061")
        ... except DermDistillError as error:
        ...     print(error.found, error.exit_code)
        There is no recipe 'isic2061'. 2
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__(found, expected, fix)

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  to fix:   {self.fix}")
        return "\n".join(lines)


class UsageError(DermDistillError):
    """The command line asks for something that does not exist or does not go together.

    Cause:
        A flag, name or combination that is unknown or out of range, a missing argument, a folder that is in
        use.

    Fix:
        Correct the command as the message says; ``dermdistill VERB --help`` lists the flags.
    """

    exit_code = 2


class ConfigError(UsageError):
    """A recipe or flag has an unknown field or a value outside its range.

    Cause:
        A misspelt setting, a value outside its range, settings that exclude each other, a recipe that is not
        there.

    Fix:
        Correct each line that is listed, in the file or as a flag; the settings' page has the ranges.
    """


class DataError(DermDistillError):
    """An image, mask, manifest or prepared data set is not as expected.

    Cause:
        A file that is missing, broken, of another format, too large or empty, or names that do not match.

    Fix:
        Put the named file right and run the same command again.
    """


class ArchiveError(DataError):
    """A download or archive is incomplete, does not match its checksum, or is unsafe to unpack.

    Cause:
        A download that broke off, an archive whose checksum differs, or one that would write outside its
        folder.

    Fix:
        Delete the archive and run the command again. If you trust a changed file: ``--no-verify``.
    """


class MismatchError(DataError):
    """Two stages were made from different data, settings or models.

    Cause:
        A data set prepared again with other settings, a teacher of other data, weights that are not the
        card's.

    Fix:
        Run the command that the message names, or take both files from the same run.
    """


class WeightsError(DermDistillError):
    """Pretrained or trained weights cannot be found, read, or do not fit the model.

    Cause:
        No connection to a hub, a package that is not installed, or weights of another architecture.

    Fix:
        Name a local file, ``package:NAME`` or ``none`` with ``--student.encoder-weights`` (teacher:
        ``--teacher.encoder-weights``), or build the network that the weights are of.
    """


class ParityError(DermDistillError):
    """An exported file does not compute what its network does.

    Cause:
        An operation that a precision or another runtime computes differently. No file is written.

    Fix:
        Leave that precision or target out (``--precisions fp32``); the message names the first layer that
        differs.

    Attributes:
        facts: What was measured, as plain values (``parity-failed.json``).
    """

    def __init__(self, found: str, expected: str = "", fix: str = "", *, facts: dict[str, Any]) -> None:
        super().__init__(found, expected, fix)
        self.facts = facts


class MissingExtraError(DermDistillError):
    """A package of an optional extra (``[train]``) is not installed.

    Cause:
        The core alone is installed, and the verb trains, serves, audits or exports to another format.

    Fix:
        Install the extra that the message names, such as ``pip install 'dermdistill[train]'``.
    """


class TrainingError(DermDistillError):
    """Training cannot go on.

    Cause:
        A loss that is not finite, a batch too small for the network or the number of devices, no validation
        images.

    Fix:
        Set the field that the message names (a lower ``--optim.lr``, another ``--data.batch-size``), then
        ``--resume``.
    """


class Interrupted(TrainingError):  # noqa: N818 (it is a request that was met, not an error)
    """Training was stopped by Ctrl-C or SIGTERM; ``last.ckpt`` holds everything to go on.

    Cause:
        Somebody pressed Ctrl-C, or the system asked the process to end.

    Fix:
        The same command with ``--resume`` (a study: the same command) goes on from there.
    """

    exit_code = 130
