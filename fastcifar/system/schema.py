"""Check what is parsed from files of JSON against a schema, before anything believes it.

A schema is a TypedDict, whose fields may have the types below. This is the only module that imports msgspec.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fastcifar.errors import FastcifarError

LARGEST = 1 << 26
"""The most bytes of a file with one JSON object. A manifest of 100,000 classes has a tenth of them."""
DEEPEST = 32
"""The most levels of objects and lists within one another. The files that fastcifar writes have fewer than ten."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Ordinal = Annotated[int, msgspec.Meta(ge=1)]
Quantity = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Name = Annotated[str, msgspec.Meta(max_length=500)]
Reason = Annotated[str, msgspec.Meta(max_length=10_000)]
Three = Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]


class Invalid(ValueError):
    """A value does not fit its schema, or a text is not JSON. The message says where."""


def parse(content: bytes | str, schema: Any) -> Any:
    """Return the value of a JSON text: unchanged, with the fields that the schema does not have.

    Raises Invalid for a text that is not JSON (which has no NaN and no infinite numbers), nests deeper than DEEPEST, or
    does not fit the schema.
    """
    try:
        value = _decoder().decode(content)
        _require_shallow([value], DEEPEST + 1)
        msgspec.convert(value, schema)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(str(error)) from error
    return value


def parse_object(content: bytes, schema: Any, where: object, cure: str) -> dict[str, Any]:
    """Return the JSON object of a file's content.

    where: the file, for messages. cure: what to do with a damaged file, the end of the message. Raises FastcifarError.
    """
    try:
        parsed: dict[str, Any] = parse(content, schema)
    except Invalid as error:
        raise FastcifarError(f"{where} is damaged ({error}); {cure}") from error
    return parsed


def read_bounded(path: Path, most: int, cure: str) -> bytes:
    """Return the bytes of a file. Raises FastcifarError for more than ``most`` bytes, OSError for an unreadable one."""
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FastcifarError(f"{path} is damaged: it has more than {most:,} bytes; {cure}")
    return content


def read_object(path: Path, schema: Any, cure: str) -> dict[str, Any]:
    """Return the JSON object of a file. Raises FastcifarError for a damaged file, OSError for an unreadable one."""
    return parse_object(read_bounded(path, LARGEST, cure), schema, path, cure)


@cache
def _decoder() -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder()


def _require_shallow(value: Any, levels: int) -> None:
    if not levels:
        raise Invalid(f"it nests deeper than {DEEPEST} levels")
    for each in value.values() if type(value) is dict else value:
        if type(each) is dict or type(each) is list:
            _require_shallow(each, levels - 1)
