"""Parse ``key=value`` options to typed values: --set, --only, --sort."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.runs.spec import RunSpec


def parse_overrides(pairs: list[str], settable: Mapping[str, type], option: str = "--set") -> dict[str, Any]:
    """Parse ``key=value`` strings to typed values, by key.

    settable: the known keys with their types. option: the option's name, for errors. Raises UsageError for an unknown
    key or a bad value.
    """
    return {key: _typed(key, text, settable, option) for key, text in _split(pairs, settable, option)}


def parse_choices(pairs: list[str], known: Mapping[str, type], option: str) -> dict[str, list[Any]]:
    """Parse ``key=value,value`` strings to lists of typed values, by key.

    The values of a key that is given twice are joined. Raises UsageError as `parse_overrides` does.
    """
    chosen: dict[str, list[Any]] = {}
    for key, texts in _split(pairs, known, option):
        values = [text.strip() for text in texts.split(",")]  # not `parts`: an empty value is a mistake here
        chosen.setdefault(key, []).extend(_typed(key, text, known, option) for text in values)
    return chosen


def require_key(key: str, known: Iterable[str], option: str) -> None:
    """Raise UsageError for a key that is not known. The error names the most similar known keys."""
    if key not in known:
        near = difflib.get_close_matches(key, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"{option} {key}: no such {'setting' if option == '--set' else 'field'}; {hint}")


def _split(pairs: list[str], known: Iterable[str], option: str) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{option} {pair!r} is not of the form key=value, as in {option} lr=1e-4")
        require_key(key, known, option)
        yield key, text


def _typed(key: str, text: str, known: Mapping[str, type], option: str) -> Any:
    try:
        return known[key](text)
    except ValueError as error:
        raise UsageError(f"{option} {key}={text}: {text!r} is not of type {known[key].__name__}") from error


SETTABLE: dict[str, type] = {
    field.name: field.type  # type: ignore[misc]
    for field in fields(RunSpec)
    if field.name in ("batch_size", "lr", "l2", "dropout", "recipe", "epochs", "precision", "tune")
}
"""The keys that --set takes, with their types."""
