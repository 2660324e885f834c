"""Tables of reliability: the cost of checks, what became of attacks, and how often verdicts are wrong."""

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


def verdicts(found: Rows) -> str:
    """Return a table of the shares of each verdict by truth and number of seeds, from the least to the most of all
    spreads.
    """
    body = []
    for truth, seeds in dict.fromkeys((row["truth"], row["seeds"]) for row in found):
        alike = [row for row in found if (row["truth"], row["seeds"]) == (truth, seeds)]
        shares = [[100 * row[kind] for row in alike] for kind in ("confirmed", "contradicted", "undecided")]
        body.append([truth, str(seeds), *(f"{min(each):.1f}-{max(each):.1f}" for each in shares)])
    header = ["the truth", "seeds", "confirmed, %", "contradicted, %", "undecided, %"]
    spreads = ", ".join(f"{100 * spread:g}" for spread in sorted({row["spread"] for row in found}))
    text = f"Ranges over standard deviations of {spreads} points between seeds.\n\n" + table(header, body)
    return under(text, found, ("numpy",))
