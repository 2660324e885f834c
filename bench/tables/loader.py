"""Tables of the loader: its own cost, the first batch, and the loaders of other projects on their own recipes."""

from fastcifar.show.markdown import Rows, table, under
from fastcifar.throughput.table import pixels

BASE = "resident"
FILE = "bench/rivals/airbench.py"


def own_cost(found: Rows) -> str:
    """Return the sentences of the rows of bench/loader.py."""
    (first,) = (row for row in found if row["what"] == "first batch")
    (own,) = (row for row in found if row["what"] == "own cost")
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in first["parts"].items())
    text = (
        f"The `Loader` itself takes {own['own_us']:.1f} µs of CPU time a batch, {100 * own['share']:.2g} % of the "
        f"{own['resident_us']:.0f} µs of a batch of the pipeline `resident` ({own['recipe']}, {own['batch_size']} "
        f"images, {own['dtype']}). A new process has its first batch after {first['seconds']:.1f} s: {parts}; the rest "
        f"is Python's start and end. The longest part is: {first['longest']}.\n"
    )
    return under(text, found)


def contests(found: Rows) -> str:
    """Return a table of images/s for each recipe and loader, and below it how the loaders differ."""
    body, notes = [], []
    for row in found:
        base = next(r for r in found if r["pipeline"] == BASE and r["recipe"] == row["recipe"])
        name = row["pipeline"].replace(f"{FILE}:", "airbench's own, ")
        share = "" if row is base else f"{base['images_per_s'] / row['images_per_s']:.3g}"
        spread = f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}"
        verified = pixels(row) if row["verified"] else "not verified"
        body.append([row["recipe"], name, f"{row['images_per_s']:,.0f}", spread, share, verified])
        if not row["verified"]:
            notes.append(f"- {name}: {row['differs'] or row['reason']}\n")
    header = ["recipe", "loader", "images/s", "range", f"{BASE} is faster by", "pixels"]
    text = table(header, body, numbers=False) + "\nNot verified, and why:\n\n" + "".join(dict.fromkeys(notes))
    return under(text, found, ("torch", "torchvision", "numba", "ffcv", "dali"))
