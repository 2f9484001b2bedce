"""The mechanics of one download: requests, ranges, retries, and the ``.part`` file with its note."""

from __future__ import annotations

import errno
import http.client
import json
import logging
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dermdistill._version import __version__
from dermdistill.core.errors import DataError
from dermdistill.core.files import write_json

logger = logging.getLogger(__name__)

BLOCK = 1 << 20
TIMEOUT = 60.0
ATTEMPTS = 4
"""Attempts per address without a single new byte in between."""


class Progress(Protocol):
    """Counts bytes; called from several threads."""

    def expect(self, count: int) -> None:
        """So many bytes more are to come."""

    def advance(self, count: int) -> None:
        """So many bytes have come (negative: they have to come again)."""


class Silent:
    """A progress that shows nothing."""

    def expect(self, count: int) -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _Part:
    """What is known of a half-fetched file."""

    total: int | None = None
    etag: str | None = None
    modified: str | None = None
    url: str | None = None


class _GoneError(Exception):
    """This address does not serve the file: asking again is of no use."""


class _BrokenError(Exception):
    """The transfer broke off or the server is busy: another attempt may help."""


class Transfer:
    """Fetch into one ``.part`` file, address after address, attempt after attempt."""

    def __init__(self, part: Path, progress: Progress, stop: threading.Event, backoff: float) -> None:
        self.part, self.note = part, part.with_name(part.name + ".json")
        self.progress, self.stop, self.backoff = progress, stop, backoff
        self.counted = 0  # bytes that the progress knows of
        self.announced = False
        self.joined = False  # whether the part consists of bytes of more than one answer

    def forget(self) -> None:
        """Start from nothing."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self._count(0)

    def run(self, urls: Sequence[str]) -> None:
        """Complete the part.

        Raises:
            DataError: No address serves it; each one's answer is listed.
        """
        total = self._read_note().total
        if total is not None and total == self._have():
            self.joined = True
            self._announce(total)
            self._count(total)
            return
        failures = []
        for url in urls:
            try:
                self._insist(url)
                return
            except (_GoneError, _BrokenError) as error:
                logger.info("%s: %s", url, error)
                failures.append(f"{url}: {error}")
        raise DataError(
            f"{self.part.stem} could not be fetched:\n" + "\n".join(f"    {line}" for line in failures),
            "one of these addresses to answer",
            "Check the connection and run the same command again (it goes on where it stopped), or fetch the "
            "file by hand and give its folder with --archives DIR.",
        )

    def _insist(self, url: str) -> None:
        """Ask one address again and again, as long as it helps."""
        attempt = 0
        while True:
            before = self._have()
            try:
                self._attempt(url)
                return
            except _BrokenError as error:
                # New bytes mean that the line works: count afresh.
                attempt = 1 if self._have() > before else attempt + 1
                if attempt == ATTEMPTS:
                    raise
                logger.debug("%s: %s; trying again", url, error)
                if self.stop.wait(self.backoff * 2 ** (attempt - 1)):
                    raise DataError(
                        f"The download of {self.part.stem} was stopped.",
                        "a download that is left to finish",
                        "Run the same command again: it goes on where it stopped.",
                    ) from error

    def _attempt(self, url: str) -> None:
        """One request, for what is missing."""
        note, have = self._read_note(), self._have()
        headers = {"User-Agent": f"dermdistill/{__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            validator = note.etag if note.etag and not note.etag.startswith("W/") else note.modified
            if note.url == url and validator:
                headers["If-Range"] = validator  # the whole file again if it has changed
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            self._refused(url, error, have)
        except (http.client.HTTPException, OSError) as error:
            raise _BrokenError(f"{type(error).__name__}: {error}") from error
        else:
            with response:
                self._receive(url, response, note, have)

    def _refused(self, url: str, error: urllib.error.HTTPError, have: int) -> None:
        reason = f"HTTP {error.code} {error.reason}"
        error.close()
        if error.code == 416 and have:
            # What we have does not fit the file there (shorter, or changed): from the start.
            self.forget()
            self._attempt(url)
        elif error.code in (408, 425, 429) or error.code >= 500:
            raise _BrokenError(reason)
        else:
            raise _GoneError(reason)

    def _receive(self, url: str, response: Any, note: _Part, have: int) -> None:
        """Write the body of one response where it belongs."""
        length = response.headers.get("Content-Length")
        start, total = 0, int(length) if length else None
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            start, total = (
                (int(match[1]), int(match[2]) if match[2] != "*" else None) if match else (-1, None)
            )
            if start != have or (note.total is not None and total is not None and note.total != total):
                self.forget()
                raise _BrokenError("the server's file is not the one begun; starting over")
        self.joined = start > 0
        self._announce(total)
        self._count(start)
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - start > free:
            raise OSError(errno.ENOSPC, f"{total - start} bytes are needed, {free} are free")
        about = _Part(total, response.headers.get("ETag"), response.headers.get("Last-Modified"), url)
        with self.part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            write_json(self.note, asdict(about))
            self._copy(response, stream)
        if total is not None and self._have() != total:
            raise _BrokenError(f"it broke off after {self._have()} of {total} bytes")

    def _copy(self, response: Any, stream: BinaryIO) -> None:
        while True:
            try:
                block = response.read(BLOCK)
            except (http.client.HTTPException, OSError) as error:
                raise _BrokenError(f"it broke off: {type(error).__name__}: {error}") from error
            if not block:
                return
            stream.write(block)
            self.counted += len(block)
            self.progress.advance(len(block))
            if self.stop.is_set():
                raise DataError(
                    f"The download of {self.part.stem} was stopped.",
                    "a download that is left to finish",
                    "Run the same command again: it goes on where it stopped.",
                )

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _read_note(self) -> _Part:
        try:
            return _Part(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return _Part()  # none, or torn: the checksum will tell

    def _announce(self, total: int | None) -> None:
        if total is not None and not self.announced:
            self.progress.expect(total)
            self.announced = True

    def _count(self, have: int) -> None:
        """Tell the progress where we stand."""
        self.progress.advance(have - self.counted)
        self.counted = have
