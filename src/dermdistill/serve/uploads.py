"""An image out of a request: held in memory, within limits, never in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from dermdistill.serve.limits import Limits
from dermdistill.serve.problems import ClientGone, Refusal

FIELD = "image"
"""Name of the multipart field that holds the file."""
_FRAMING = 64 * 2**10  # what a multipart body may hold beside the file


class _InMemoryParser(MultiPartParser):
    """Starlette's parser spools parts above 1 MB to a temporary file; this one never does.

    Its stream is cut at the upload limit, so that "never" costs bounded memory.
    """

    spool_max_size = 2**62


async def read_image_bytes(request: Request, limits: Limits) -> bytes:
    """Read the image file that a request carries: as its body, or as the field `image` of a form.

    Args:
        request: Its body has not been read.
        limits: Most bytes, and seconds until they must have arrived.

    Returns:
        The bytes of the file, at least one.

    Raises:
        Refusal: 400, 408, 413, 415 or 422.
        ClientGone: The connection was closed before its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refusal(
            415,
            "unsupported_type",
            f"The body's Content-Type is {kind or 'missing'}.",
            "multipart/form-data, image/… or application/octet-stream",
        )
    most = limits.max_upload_bytes + (_FRAMING if form else 0)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.upload_timeout_s):
            stream = _cut(request, most, limits)
            data = await _from_form(request, stream) if form else b"".join([part async for part in stream])
    except TimeoutError:
        raise Refusal(
            408, "upload_timeout", f"The image did not arrive within {limits.upload_timeout_s:g} seconds."
        ) from None
    except ClientDisconnect:
        raise ClientGone from None
    if len(data) > limits.max_upload_bytes:
        raise _too_large(limits)
    if not data:
        raise Refusal(422, "no_image", "The image is empty.", "the bytes of an image file")
    return data


async def _cut(request: Request, most: int, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body's parts, up to ``most`` bytes: a Content-Length may be missing, or lie."""
    got = 0
    async for part in request.stream():
        got += len(part)
        if got > most:
            raise _too_large(limits)
        yield part


async def _from_form(request: Request, stream: AsyncGenerator[bytes, None]) -> bytes:
    parser = _InMemoryParser(request.headers, stream, max_files=1, max_fields=8, max_part_size=_FRAMING)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(
            400, "bad_form", f"The form cannot be read: {error.message}", f"one file, in the field {FIELD}"
        ) from None
    try:
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            named = ", ".join(sorted(form)) or "none"
            raise Refusal(
                422,
                "no_image",
                f"The form has no file in a field {FIELD} (fields: {named[:200]}).",
                f"one file, in the field {FIELD}",
            )
        return await upload.read()
    finally:
        await form.close()


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"The file is larger than {limits.max_upload_bytes:,} bytes.",
        f"at most {limits.max_upload_bytes / 2**20:g} MiB",
        "Save the photograph as JPEG, or at a smaller size.",
    )
