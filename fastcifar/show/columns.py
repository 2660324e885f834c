"""Tables for a terminal that fit its width: no number, header or word is cut.

A table first folds its texts, at hyphens and spaces. Then it leaves out the least important columns and names them. In
the end it puts the first column on lines of its own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GAP = 2  # spaces between columns
INDENT = 2  # spaces before the rows below a first column on lines of its own
NARROW = 20  # characters: a text is folded to no less, unless it is shorter
SHORT = 8  # letters: a header is folded only where it is longer
_ENDS = re.compile(
    r"(?<=\s)(?=\S)"
    r"|(?<=[^\W_]-)(?<!\de-)(?=\w)"  # the hyphens of a label, not that of 1e-05
    r"|(?<=/)(?=[\w.-]{2})|(?<=\w[.:=])(?=[^\W\d])|(?<=,)(?=[^\W\d])"  # paths, modules and recipes, not images/s or 0.5
)
_UNDERSCORES = re.compile(r"(?<=_)(?=[^\W_])")


@dataclass(frozen=True)
class Column:
    """A column of a table. header: whole words; cells: one for each row, as plain text."""

    header: str
    cells: Sequence[str]
    number: bool = True
    """Whether the cells are numbers, which are aligned to the right and are not folded."""
    rank: int = 0
    """0: always shown. Where the width is too small, columns of the largest rank are left out first."""

    def natural(self) -> int:
        """Return the width at which no cell is folded, in characters."""
        lines = (line for cell in self.cells for line in cell.splitlines())
        return max([self._header(), *(len(line) for line in lines)])

    def least(self) -> int:
        """Return the smallest width that is readable, in characters."""
        if self.number:
            return self.natural()
        longest = max((len(piece) for cell in self.cells for piece in pieces(cell)), default=0)
        words = max(map(len, self.header_lines(1)))
        return max(words, longest, min(NARROW, self.natural()))

    def _header(self) -> int:
        """Return the width of the header. Over numbers, it is folded where it is longer than SHORT."""
        return max(map(len, self.header_lines(SHORT))) if self.number else len(self.header)

    def header_lines(self, width: int) -> list[str]:
        """Return the header in lines of at most ``width`` characters, unless a word is longer."""
        return _filled([part for each in _ENDS.split(self.header) for part in _UNDERSCORES.split(each)], width)


@dataclass(frozen=True)
class Fitted:
    """A table that rich prints in the width of its console, as plain text."""

    columns: Sequence[Column]
    title: str = ""
    caption: str = ""
    """A sentence below the table, such as the units."""
    more: str = "a wider terminal"
    """The way to see columns that were left out, for the sentence that names them."""
    marks: dict[str, str] = field(default_factory=dict)
    """The styles of rich for the cells with these texts."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        if self.title:
            yield from (Text(line, style="bold") for line in folded(self.title, width))
        shown = self.fitting(width)
        styles = "|".join(map(re.escape, self.marks))
        for line in self._lines(shown, width):
            text = Text(line)
            if styles and (found := re.match(rf"({styles})(?=  |$)", line)):
                text.stylize(self.marks[found[1]], *found.span())
            yield text
        left = [column.header for column in self.columns if column not in shown]
        missing = f"no room for {', '.join(left)}: {self.more}" if left else ""
        for sentence in filter(None, (self.caption, missing)):
            yield from (Text(line, style="italic") for line in folded(sentence, width))

    def natural(self) -> int:
        """Return the width at which no column is left out and no text is folded, in characters."""
        return sum(column.natural() for column in self.columns) + GAP * (len(self.columns) - 1)

    def fitting(self, width: int) -> list[Column]:
        """Return the columns that are shown in a width, in their order."""
        shown = list(self.columns)
        while _total(shown) > width:
            last = max(shown, key=lambda column: column.rank)
            if last.rank == 0:
                break
            shown.remove(last)
        return shown

    def lines(self, width: int) -> list[str]:
        """Return the lines of the table without its title and caption: headers, a rule, and the rows."""
        return list(self._lines(self.fitting(width), width))

    def _lines(self, shown: Sequence[Column], width: int) -> Iterator[str]:
        first, *others = shown
        apart = _total(shown) > width and bool(others)
        columns, indent = (others, " " * INDENT) if apart else (list(shown), "")
        widths = _widths(columns, width - len(indent))
        headers = [column.header_lines(wide) for column, wide in zip(columns, widths, strict=True)]
        high = max(map(len, headers))
        if apart:
            yield first.header
        for line in _side_by_side(columns, widths, [[""] * (high - len(lines)) + lines for lines in headers]):
            yield indent + line
        rule = sum(widths) + GAP * (len(widths) - 1) + len(indent)
        yield "─" * min(rule, width)
        before = None
        for row in range(len(first.cells)):
            if apart and first.cells[row] != before:
                before = first.cells[row]
                yield from folded(before, width)
            cells = [folded(column.cells[row], wide) for column, wide in zip(columns, widths, strict=True)]
            for line in _side_by_side(columns, widths, cells):
                yield indent + line


def pieces(text: str) -> list[str]:
    """Return the parts of a text between which a line may end, without spaces at their ends."""
    return [piece.strip() for piece in _ENDS.split(text)] or [""]


def folded(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` characters.

    A line ends at a space, a hyphen or another sign between two words. A word is cut only where it is longer than a
    line, at an underscore if it has one.
    """
    lines = []
    for line in text.splitlines() or [""]:
        parts: list[str] = []
        for piece in _ENDS.split(line):
            if len(piece.rstrip()) <= width:
                parts.append(piece)
                continue
            for part in _filled(_UNDERSCORES.split(piece), width):
                parts += [part[n : n + width] for n in range(0, len(part), width)]
        lines += _filled(parts, width)
    return lines


def _filled(parts: Sequence[str], width: int) -> list[str]:
    """Return parts of a text, put together to lines of at most ``width`` characters."""
    lines = [""]
    for part in parts:
        if lines[-1] and len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _total(columns: Sequence[Column]) -> int:
    return sum(column.least() for column in columns) + GAP * (len(columns) - 1)


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return the width of each column: its least, and a share of the room that is left, up to its natural width."""
    widths, naturals = [column.least() for column in columns], [column.natural() for column in columns]
    room = width - sum(widths) - GAP * (len(columns) - 1)
    while room > 0 and (growing := [n for n, wide in enumerate(widths) if wide < naturals[n]]):
        for n in growing[:room]:
            widths[n] += 1
            room -= 1
    return widths


def _side_by_side(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of one row, whose cells are lines themselves."""
    for n in range(max(map(len, cells))):
        texts = [lines[n] if n < len(lines) else "" for lines in cells]
        aligned = [
            text.rjust(wide) if column.number else text.ljust(wide)
            for text, wide, column in zip(texts, widths, columns, strict=True)
        ]
        yield (" " * GAP).join(aligned).rstrip()


@dataclass(frozen=True)
class FirstThatFits:
    """Tables with the same content. rich prints the first one that fits without a change, or else the last one."""

    tables: Sequence[Fitted]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fitting = (table for table in self.tables if _total(table.columns) <= options.max_width)
        yield next(fitting, self.tables[-1])
