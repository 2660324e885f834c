"""Tables of reliability: the cost of checks, and what became of attacks."""

from fastcifar.show.markdown import Rows, table, under
from tools.attacks.outcome import OUTCOMES


def cost(found: Rows) -> str:
    """Return a table of the seconds with and without checks."""
    body = [
        [
            row["what"] + (f", {row['runs']:,} of {row['epochs']} epochs" if "runs" in row else ""),
            f"{row['bytes'] / 1e6:,.1f}" if "bytes" in row else "",
            row["way"],
            f"{1000 * row['seconds']:,.1f}",
            f"{1000 * row['seconds_min']:,.1f}-{1000 * row['seconds_max']:,.1f}",
        ]
        for row in found
    ]
    return under(table(["work", "MB", "way", "ms, median", "range"], body, numbers=False), found, ("torch",))


def campaign(found: Rows) -> str:
    """Return a table of the attacks and their outcomes, with their sums."""
    names = ("tried", *OUTCOMES)
    body = [[row["attack"], *(f"{row[name]:,}" for name in names)] for row in found]
    body.append(["all", *(f"{sum(row[name] for row in found):,}" for name in names)])
    return under(table(["attack", *names], body), found, ("torch",))
