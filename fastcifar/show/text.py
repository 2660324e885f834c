"""Numbers as text for people: counts, durations, accuracies with their spread. Also names that can be shown."""

import re
import reprlib
from collections.abc import Sequence
from statistics import mean, stdev

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return the text with U+FFFD in place of each character that has no picture, or that a file of UTF-8 or XML cannot
    hold: control characters except newline and tab, U+2028 and U+2029, lone surrogates, and U+FFFE and U+FFFF.
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def quoted(value: object, longest: int = 80) -> str:
    """Return a value of a file as Python writes it, in at most ``longest`` characters.

    Long texts, large numbers, and containers with many or deep parts, are shown in part. Surrogates, which stand for
    bytes that are not UTF-8, are escaped.
    """
    text = _SHORT.repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class _Short(reprlib.Repr):
    """Shows integers of any size: Python refuses to write those of more than 4,300 digits."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"an integer of {x.bit_length():,} bits"


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxother = 3, 10, 60, 60


def duration(seconds: float) -> str:
    """Return a duration as text, such as 4 s, 12 min, 3.5 h or 1,234 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def counted(count: int, what: str) -> str:
    """Return a count with its noun, such as 1 run or 1,234 runs. what: the noun in the singular."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def spread(accuracies: Sequence[float | None]) -> str:
    """Return accuracies in [0, 1] as mean ± standard deviation (n - 1) in percent, such as "67.31 ± 0.42".

    None stands for a run that diverged; the text ends with the number of such runs.
    """
    known = [100 * accuracy for accuracy in accuracies if accuracy is not None]
    lost = f" ({len(accuracies) - len(known)} diverged)" if len(known) < len(accuracies) else ""
    if not known:
        return f"none{lost}"
    return f"{mean(known):.2f}" + (f" ± {stdev(known):.2f}" if len(known) > 1 else "") + lost


def parts(text: str) -> list[str]:
    """Return the parts of a comma-separated text, without surrounding spaces and without empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
