"""Rows of a pack, read with bounds: a pack that changes under a running training is an error, and no crash.

A memory map of a file that was cut kills the process that touches it (SIGBUS), and one that was overwritten
gives other images without a word. A read past the end comes back short, and the file's time tells the rest.
"""

from __future__ import annotations

import io
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermdistill.core.errors import MismatchError
from dermdistill.core.files import hash_file
from dermdistill.data.dataset import PreparedData, command, pack_folder


class PackRows:
    """Reads rows of one array of an opened pack.

    The file is held open: it can be read to the end also where its folder was removed meanwhile.

    Args:
        array: ``images`` or ``masks`` of a `PreparedData`.

    Examples:
        >>> from pathlib import Path
        >>> from dermdistill import prepare_phantom
        >>> data = prepare_phantom(Path("data"), count=6, size=32, progress=False)
        >>> PackRows(data.masks).read(np.array([4, 1])).shape
        (2, 32, 32)
    """

    def __init__(self, array: NDArray[np.uint8]) -> None:
        assert isinstance(array, np.memmap)
        self.path, self.shape, self._offset = Path(str(array.filename)), array.shape[1:], array.offset
        descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, descriptor)
        self._file = io.FileIO(descriptor, closefd=False)
        self._stamp = self._state()

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return copies of rows: uint8 [n, …], in the order that is asked for.

        Raises:
            MismatchError: The file was cut or written to since it was opened.
        """
        found = np.empty((len(rows), *self.shape), np.uint8)
        for place, row in zip(found, rows.tolist(), strict=True):
            self._file.seek(self._offset + row * place.nbytes)
            if self._file.readinto(memoryview(place).cast("B")) != place.nbytes:
                self._refuse()
        if self._state() != self._stamp:
            self._refuse()
        return found

    def _state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _refuse(self) -> None:
        raise MismatchError(
            f"{self.path} was changed while it was in use.",
            "the pack that training began with",
            f"Delete {self.path.parent.parent}, prepare it again, and go on with --resume.",
        )


def check_pack(data: PreparedData) -> None:
    """Compare a pack's bytes with the hashes that it was prepared with (about a second for a GB).

    Raises:
        MismatchError: They differ: a disk's fault, or another program wrote to it.
    """
    hashes = data.info["packs"][str(data.size)]
    for kind in ("images", "masks"):
        path = pack_folder(data.folder, data.size) / f"{kind}.npy"
        if hash_file(path) != hashes[f"{kind}_sha256"]:
            raise MismatchError(
                f"{path} is not what was packed: its bytes are others.",
                "the file that dataset.json describes",
                f"Delete {data.folder} and run: {command(data.info, data.size, data.folder.parent)}",
            )
