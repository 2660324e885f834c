"""The words of a command line that bash asks completions for."""

import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO

COMPLETING = "_FASTCIFAR_COMPLETE"  # the variable that a shell sets when it asks for completions


@contextmanager
def whole_words(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Put together the words that bash cuts at = and :, while a completion answers; without a completion do nothing.

    bash's COMP_WORDBREAKS has both characters. It replaces only the part of a word after them, so only this part of
    each answer is printed.
    """
    if environment.get(COMPLETING) != "complete_bash":
        yield
        return
    kept = _join(environment)
    answers = StringIO()
    try:
        with redirect_stdout(answers):
            yield
    finally:
        for line in answers.getvalue().splitlines():
            print(line.removeprefix(kept))


def _join(environment: MutableMapping[str, str]) -> str:
    """Join the words in the variables of a completion, and return the part of the present word that bash keeps."""
    text, place_text = environment.get("COMP_WORDS", ""), environment.get("COMP_CWORD", "")
    position = int(place_text) if place_text.isdecimal() else 0
    words = text.split("\n") if "\n" in text else text.split()  # bash gives a word a line
    words += [""] * (position - len(words) + 1)
    whole: list[str] = []
    kept, place = "", 0
    for number, word in enumerate(words):
        glued = bool(whole) and (_is_break(word) or _is_break(words[number - 1]))
        if number == position:
            kept = whole[-1] + word * _is_break(word) if glued else ""
        whole = [*whole[:-1], whole[-1] + word] if glued else [*whole, word]
        place = len(whole) - 1 if number == position else place
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(whole), str(place)
    return kept


def _is_break(word: str) -> bool:
    return re.fullmatch("[=:]+", word) is not None
