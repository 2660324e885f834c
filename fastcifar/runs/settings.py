"""Parse ``key=value`` options to typed values: --set, --only, --sort."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.recipes import recipes_of
from fastcifar.runs.spec import RunSpec

SHOWN = 10  # known values that a message lists


def parse_overrides(pairs: list[str], settable: Mapping[str, type], option: str = "--set") -> dict[str, Any]:
    """Parse ``key=value`` strings to typed values, by key.

    settable: the known keys with their types. option: the option's name, for errors. Raises UsageError for an unknown
    key or a bad value.
    """
    return {key: typed(key, text, settable, option) for key, text in _split(pairs, settable, option)}


def parse_choices(pairs: list[str], known: Mapping[str, type], option: str) -> dict[str, list[Any]]:
    """Parse ``key=value,value`` strings to lists of typed values, by key.

    The values of a key that is given twice are joined. A part field=value of a recipe belongs to the recipe before it:
    ``recipe=none,crop=4`` is one recipe. Raises UsageError as `parse_overrides` does.
    """
    chosen: dict[str, list[Any]] = {}
    for key, texts in _split(pairs, known, option):
        # not `parts`: an empty value is a mistake here
        values = recipes_of(texts) if key == "recipe" else [text.strip() for text in texts.split(",")]
        if not values:
            raise UsageError(f"{option} {key}={texts} has no value; write one, as in {option} recipe=basic")
        chosen.setdefault(key, []).extend(typed(key, text, known, option) for text in values)
    return chosen


def require_key(key: str, known: Iterable[str], option: str) -> None:
    """Raise UsageError for a key that is not known. The error names the most similar known keys."""
    if key not in known:
        near = difflib.get_close_matches(key, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        what = "setting" if option in ("--set", "train_run") else "field"
        raise UsageError(f"{option} {key}: no such {what}; {hint}")


def nearest_value(value: Any, known: Iterable[Any]) -> str:
    """Return the hint for a value that does not exist: the nearest known value, and at most SHOWN of the known values.

    known: values of the same type; None is left out. The nearest text is the most similar one, if there is one. The
    nearest number is the one with the least difference.
    """
    values = sorted({each for each in known if each is not None})
    if isinstance(value, str):
        near = difflib.get_close_matches(value, values, 1)
    else:
        near = sorted(values, key=lambda each: float(abs(each - value)))[:1]
    there = listing(values) or "none"
    if len(values) < 2:
        return f"there is {there}"
    return f"did you mean {near[0]}? There are {there}" if near else f"there are {there}"


def listing(values: Iterable[Any]) -> str:
    """Return different values of one type in words: sorted, without None, at most SHOWN of them; empty without any."""
    known = sorted({each for each in values if each is not None})
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"{', '.join(map(str, known[:SHOWN]))}{more}"


def _split(pairs: list[str], known: Iterable[str], option: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{option} {pair!r} is not of the form key=value, as in {option} lr=1e-4")
        require_key(key, known, option)
        yield key, text


def typed(key: str, value: Any, known: Mapping[str, type], option: str) -> Any:
    """Return a value, which may be a text, with the type of its key. Raises UsageError where it is not of this type."""
    kind = known[key]
    try:
        converted = kind(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{option} {key}={value}: {value!r} is not of type {kind.__name__}") from error
    if isinstance(value, bool) or (not isinstance(value, str) and converted != value):
        raise UsageError(f"{option} {key}={value}: {value!r} is not of type {kind.__name__}")
    return converted


SETTABLE: dict[str, type] = {
    field.name: field.type  # type: ignore[misc]
    for field in fields(RunSpec)
    if field.name not in ("experiment", "protocol", "model", "seed", "dataset", "pipeline", "weights", "code")
}
"""The keys that --set takes, with their types. The other fields have options of their own."""
