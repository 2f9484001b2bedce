"""The image file in a request's body, read in a worker: a hostile form costs no more than a slow image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from dermdistill.serve.problems import Refusal

FIELD = "image"
"""Name of the multipart field that holds the file."""
FORM = "multipart/form-data"
FRAMING = 64 * 2**10
"""Bytes that a form may hold beside the file."""
_MAX_FIELDS = 8


class _InMemoryParser(MultiPartParser):
    """Starlette's parser spools parts above 1 MB to a temporary file; this one never does.

    Its stream has been cut at the upload limit, so that "never" costs bounded memory.
    """

    spool_max_size = 2**62
    ended = False
    """Whether the form's last boundary has come."""

    def on_end(self) -> None:
        """The last boundary has come."""
        self.ended = True

    def close(self) -> None:
        """Free the files of all parts, also of those that were not ended."""
        for file in self._files_to_close_on_error:
            file.close()


def media_type(content_type: str) -> str:
    """The type in a Content-Type header, in lower case and without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def image_in(body: bytes, content_type: str, max_bytes: int) -> bytes:
    """Take the image file out of a body: the body itself, or the field `image` of a form.

    Args:
        body: Of the request.
        content_type: Its Content-Type header.
        max_bytes: Of the file.

    Returns:
        The bytes of the file, at least one.

    Raises:
        Refusal: 400, the form is broken; 413, the file is too large; 422, there is none.
    """
    data = asyncio.run(_from_form(body, content_type)) if media_type(content_type) == FORM else body
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    if not data:
        raise Refusal(422, "no_image", "The image is empty.", "the bytes of an image file")
    return data


async def _from_form(body: bytes, content_type: str) -> bytes:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemoryParser(
        Headers({"Content-Type": content_type}), stream(),
        max_files=1, max_fields=_MAX_FIELDS, max_part_size=FRAMING,
    )  # fmt: skip
    try:
        form = await parser.parse()
        if not parser.ended:
            raise MultiPartException("It is cut off.")
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            named = ", ".join(sorted(form)) or "none"
            raise Refusal(
                422,
                "no_image",
                f"The form has no file in a field {FIELD} (fields: {named[:200]!r}).",
                f"one file, in the field {FIELD}",
            )
        return await upload.read()
    except (MultiPartException, ValueError) as error:
        reason = getattr(error, "message", str(error))[:200]
        raise Refusal(
            400, "bad_form", f"The form cannot be read: {reason}", f"one file, in the field {FIELD}"
        ) from None
    finally:
        parser.close()


def too_large(max_bytes: int) -> Refusal:
    """The refusal of a file, or of a body that holds one, beyond the limit."""
    return Refusal(
        413,
        "too_large",
        f"The file is larger than {max_bytes:,} bytes.",
        f"at most {max_bytes / 2**20:g} MiB",
        "Save the photograph as JPEG, or at a smaller size.",
    )
