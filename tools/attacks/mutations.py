"""Damaged versions of files of JSON and of JSON lines: of their values, and of their bytes."""

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, TypeVar

from fastcifar.errors import FastcifarError

T = TypeVar("T")
ODD: tuple[Any, ...] = (
    {}, [], "", "x", None, True, False, 0, -1, 1.5, 10**30, 1e308, -1e-308, [[]], {"a": {}}, ["a"], "\x00", "[/red]",
    "$\\frac{$", "../../etc", "a" * 70_000, "é" * 10, [1, 2, 3, 4], {"seal": "x"},
)  # fmt: skip
TEXTS = ("NaN", "Infinity", "-Infinity", "1e400", "1" * 5000, "[" * 100_000, '{"a":' * 50_000, '"\\ud800"', "01", "'x'")
"""Texts that stand for a value and are no JSON, or that break a careless reader."""
PLACE = '"a place for a text"'


def attempt(read: Callable[[], T]) -> tuple[T | None, str | None]:
    """Return the result of ``read`` and None, or None and the message of its error. Any other exception is a fault."""
    try:
        return read(), None
    except FastcifarError as error:
        return None, str(error)


def mutated(content: bytes, rng: random.Random, lines: bool) -> bytes:
    """Return a damaged version of a file. rng: a random.Random. lines: whether each line is a JSON object."""
    if rng.random() < 0.25:
        return _other_bytes(content, rng)
    if not lines:
        return changed(content, rng)
    parts = content.splitlines(keepends=True)
    at = rng.randrange(len(parts))
    kind = rng.randrange(5)
    if kind == 0:
        parts.insert(at, parts[rng.randrange(len(parts))])
    elif kind == 1:
        del parts[at]
    else:
        parts[at] = changed(parts[at], rng) + b"\n"
    return b"".join(parts)


def changed(content: bytes, rng: random.Random) -> bytes:
    """Return a JSON text in which one value is another or is missing, or its key has another name."""
    root = [json.loads(content)]
    holder, key = rng.choice(list(_places(root)))
    kind = rng.random()
    if kind < 0.15 and isinstance(holder, dict):
        del holder[key]
    elif kind < 0.2 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif kind < 0.3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = holder[key] + rng.choice([1, -1, 0.125])
    elif kind < 0.8:
        holder[key] = deepcopy(rng.choice(ODD))
    else:
        holder[key] = json.loads(PLACE)
        return json.dumps(root[0]).replace(PLACE, rng.choice(TEXTS), 1).encode()
    return json.dumps(root[0]).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container of a value with each of its keys."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _other_bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if kind == 2:
        return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:]
    return content[:at] + content[at + rng.randrange(1, 40) :]
