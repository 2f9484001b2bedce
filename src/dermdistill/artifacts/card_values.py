"""The ranges of a model card's values: a card may come from anywhere, and networks are run by it.

>>> from pydantic import TypeAdapter, ValidationError
>>> TypeAdapter(Probability).validate_python(0.5)
0.5
>>> try:
...     TypeAdapter(FileName).validate_python("../other/weights.pth")
... except ValidationError as error:
...     print(error.errors()[0]["msg"])
Value error, '../other/weights.pth' is no name of a file beside the card
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MAX_INPUT_SIZE = 4096
"""Largest side of a network's input, in pixels: one picture of it takes 200 MB."""

MAX_MEMBERS = 64
"""Most networks in one file of weights."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} holds signs that are not printed")
    return text


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is no name of a file beside the card")
    return name


def _network(values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if key == "options" and isinstance(value, dict):
            continue  # of a user's own factory, whose business they are
        if key == "channel" and value == 0:
            continue
        is_count = isinstance(value, int) and 1 <= value <= MAX_MEMBERS
        if not (value is None or is_count or (isinstance(value, str) and value.isprintable())):
            raise ValueError(f"{key} is neither a name nor a number from 1 to {MAX_MEMBERS}")
    return values


def _reference(values: dict[str, Any]) -> dict[str, Any]:
    try:
        checked = _Reference.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    count = len(checked.features)
    if len(checked.mean) != count or [len(row) for row in checked.precision] != [count] * count:
        raise ValueError(f"mean and precision are not those of {count} features")
    return values


Text = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
"""Names, hashes and dates: they are printed on terminals."""
FileName = Annotated[Text, AfterValidator(_file_name)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
InputSize = Annotated[int, Field(ge=1, le=MAX_INPUT_SIZE)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]
Ratio = Annotated[float, Field(ge=0, le=1e9)]
Probability = Annotated[float, Field(ge=1e-6, le=1 - 1e-6)]
"""A threshold: its logit is finite."""
Mean = Annotated[list[Annotated[float, Field(ge=-10, le=10)]], Field(min_length=3, max_length=3)]
Std = Annotated[list[Annotated[float, Field(ge=1e-4, le=10)]], Field(min_length=3, max_length=3)]
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Limit = Annotated[float, Field(ge=0, le=1e15)]
_Shift = Annotated[float, Field(ge=-1e6, le=1e6)]
BiasShifts = Annotated[dict[Text, Annotated[list[_Shift], Field(max_length=10_000)]], Field(max_length=100)]
"""What a style adds to a network's biases, by their names."""


class _Reference(BaseModel):
    """What `reference_statistics.fit_reference` makes, and is read of it."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    features: Annotated[list[Text], Field(min_length=1, max_length=100)]
    mean: list[_Number]
    precision: list[list[_Number]]
    limit: _Limit
    second_limit: _Limit


Network = Annotated[dict[str, Any], AfterValidator(_network)]
"""Which network it is: names, of how many members it is the mean; of a user's own its channel and options."""
Reference = Annotated[dict[str, Any], AfterValidator(_reference)]
"""Statistics of training images, whose shapes agree with one another."""
