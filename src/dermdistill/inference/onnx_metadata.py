"""Change card and biases in an ONNX file without the ``onnx`` package, which the core install does not have.

An ONNX file is one protocol-buffers message. Only what is looked for is walked here; all else is copied byte
by byte. Field numbers: ``ModelProto.metadata_props`` is 14, an entry's ``key`` is 1 and its ``value`` 2;
``ModelProto.graph`` is 7, ``GraphProto.initializer`` 5, ``TensorProto.name`` 8 and ``raw_data`` 9
(onnx.proto3, ONNX 1.16).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dermdistill.artifacts.card import METADATA_PREFIX, ModelCard
from dermdistill.core.errors import WeightsError

_METADATA, _KEY, _VALUE = 14, 1, 2
_GRAPH, _INITIALIZER, _NAME, _RAW_DATA = 7, 5, 8, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def with_card(model: bytes, card: ModelCard) -> bytes:
    """The same ONNX model with another card in its metadata; other metadata stays.

    Args:
        model: Content of an ONNX file.
        card: What the new file says of itself.

    Raises:
        WeightsError: The bytes are not an ONNX model.
    """
    kept = [field for number, field, content in _fields(model) if not _is_card(number, content)]
    entries = [_entry(name, value) for name, value in card.to_metadata().items()]
    return b"".join([*kept, *entries])


def with_shifted_biases(model: bytes, shifts: dict[str, list[float]]) -> bytes:
    """The same ONNX model with something added to some of its weights; every length stays what it is.

    Args:
        model: Content of an ONNX file.
        shifts: By the name of a float32 initializer: what is added to its values.

    Raises:
        WeightsError: The bytes are not an ONNX model, or it has no such weights.
    """
    changed = bytearray(model)
    left = dict(shifts)
    for start, graph in _spans(model, 0, len(model), _GRAPH):
        for at, tensor in _spans(model, start, graph, _INITIALIZER):
            name = b"".join(model[a:b] for a, b in _spans(model, at, tensor, _NAME)).decode()
            for first, last in _spans(model, at, tensor, _RAW_DATA):
                values = np.frombuffer(model[first:last], "<f4") if (last - first) % 4 == 0 else None
                if name in left and values is not None and values.size == len(left[name]):
                    shifted = values + np.asarray(left.pop(name), dtype="<f4")
                    changed[first:last] = shifted.astype("<f4").tobytes()
    if left:
        raise WeightsError(
            f"The file has no weights {', '.join(sorted(left))} in float32, which its styles belong to.",
            "a float32 file, as dermdistill export writes it",
            "For int8 or float16 fold the style in: dermdistill export RUN --style NAME.",
        )
    return bytes(changed)


def _is_card(number: int, content: bytes) -> bool:
    if number != _METADATA:
        return False
    keys = [text for field, _, text in _fields(content) if field == _KEY]
    return any(key.startswith(METADATA_PREFIX.encode()) for key in keys)


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, whole bytes and content of each field of a message, in the order of the file."""
    for number, start, at, end in _walk(message, 0, len(message)):
        yield number, message[start:end], message[at:end]


def _spans(message: bytes, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where the contents of the fields of one number lie, of the message between two places."""
    return ((inside, last) for found, _, inside, last in _walk(message, at, end) if found == number)


def _walk(message: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, start, start of the content and end of each field between two places."""
    while at < stop:
        start = at
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, end = _read_varint(message, at)
        elif wire == _BYTES:
            length, at = _read_varint(message, at)
            end = at + length
        elif wire in (_FIXED32, _FIXED64):
            end = at + (4 if wire == _FIXED32 else 8)
        else:
            raise _broken()
        if number == 0 or end > stop:
            raise _broken()
        yield number, start, at, end
        at = end


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A base-128 number, least significant group first, and where it ends."""
    value = 0
    for place in range(10):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at
    raise _broken()


def _varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _text(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _entry(name: str, value: str) -> bytes:
    return _text(_METADATA, _text(_KEY, name.encode()) + _text(_VALUE, value.encode()))


def _broken() -> WeightsError:
    return WeightsError(
        "The file is not a whole ONNX model.",
        "an ONNX file, as dermdistill export writes it",
        "Export it again (dermdistill export RUN).",
    )
