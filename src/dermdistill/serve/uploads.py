"""The body of a request: received into memory, within limits of bytes and time, never into a file.

What a form holds is read in a worker, as the image is (`forms`): the event loop only collects bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from dermdistill.serve.forms import FORM, FRAMING, media_type, too_large
from dermdistill.serve.limits import Limits
from dermdistill.serve.problems import ClientGone, Refusal
from dermdistill.serve.worker_pool import busy

_BINARY = ("application/octet-stream", "application/dicom")


class Uploads:
    """All bodies that are being received or worked on. Together they hold no more than all slots may."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.slots * (limits.max_upload_bytes + FRAMING)
        self._held = 0

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytes]:
        """Receive the body of a request: an image file, or a form with one. It is given back at the end.

        Args:
            request: Its body has not been read.

        Yields:
            The bytes of the body.

        Raises:
            Refusal: 408, 413, 415 or 429.
            ClientGone: The connection was closed before its end.
        """
        kind = media_type(request.headers.get("content-type", ""))
        if kind not in (FORM, *_BINARY) and not kind.startswith("image/"):
            raise Refusal(
                415,
                "unsupported_type",
                f"The body's Content-Type is {kind[:200] or 'missing'}.",
                "multipart/form-data, image/…, application/dicom or application/octet-stream",
            )
        most = self._limits.max_upload_bytes + (FRAMING if kind == FORM else 0)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise too_large(self._limits.max_upload_bytes)
        parts: list[bytes] = []
        held = 0
        try:
            async for part in self._timed(request):
                held += len(part)
                self._held += len(part)
                if held > most:  # a Content-Length may be missing, or lie
                    raise too_large(self._limits.max_upload_bytes)
                if self._held > self._most:
                    raise busy("Other images that are being received fill the memory.", 1)
                parts.append(part)
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self._held -= held

    async def _timed(self, request: Request) -> AsyncIterator[bytes]:
        """The body's parts: each within the idle limit, and all within the upload's."""
        limits, now = self._limits, asyncio.get_running_loop().time
        end = now() + limits.upload_timeout_s
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout_at(min(end, now() + limits.idle_timeout_s)):
                    part = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                idle = now() < end
                seconds = limits.idle_timeout_s if idle else limits.upload_timeout_s
                raise Refusal(
                    408,
                    "upload_timeout",
                    f"Nothing arrived for {seconds:g} seconds."
                    if idle
                    else f"The image did not arrive within {seconds:g} seconds.",
                    fix="Send it again; where the connection is slow, a smaller file.",
                    headers={"Connection": "close"},
                ) from None
            except ClientDisconnect:
                raise ClientGone from None
            yield part
