"""Tables of a GPU, from the rows of `make gpu-check`. row["what"] names the measurement."""

from typing import Any

from bench.tables.cells import ranged
from fastcifar.show.markdown import Rows, table, under
from fastcifar.throughput.table import pixels

PACKAGES = ("torch", "torchvision", "triton")
MODES = {"graph": "one CUDA graph a step", "none": "one launch an operation"}


def measured(found: Rows) -> str:
    """Return a table with a caption for each kind of work, without packs, profiles and comparisons of bits."""
    tables = {
        "Input pipelines, each in a process of its own:": pipelines(found),
        "Kernels alone. The ceiling is the rate at which the device's memory copies the bytes that an image needs:": (
            contests(found)
        ),
        "An epoch of the CNN, 40,000 images:": epochs(found),
        "Fine-tuning EfficientNetV2-S on images of 384 × 384 pixels:": pretrained(found),
    }
    return under("\n".join(f"{caption}\n\n{lines}" for caption, lines in tables.items()), found, PACKAGES)


def packs(found: Rows) -> str:
    """Return the tables of the ways to train a pack, of the experiments' packs, and of the parts of a pack's step."""
    layers = f"Parts of a step, forward and backward, {_runs(found)} runs, µs: median (range):\n\n{parts(found)}"
    return under("\n".join([ways(found), grid(found), layers]), found, PACKAGES)


def parts(found: Rows) -> str:
    """Return the table of the parts of a pack's step, timed alone in each way."""
    rows = of(found, "part", failed=None)
    names = list(dict.fromkeys(row["way"] for row in rows))
    body = []
    for part in dict.fromkeys(row["part"] for row in rows):
        timed = {row["way"]: row for row in rows if row["part"] == part}
        cells = [f"{row['us']:,.0f} ({row['least']:,.0f}-{row['most']:,.0f})" for row in timed.values()]
        body.append([part, *(dict(zip(timed, cells, strict=True)).get(name, "") for name in names)])
    same = all(row["same"] for row in rows)
    text = "Each way gave the same bits each time." if same else "Some ways did NOT give the same bits each time."
    return table(["part", *names], body) + f"\n{text}\n"


def candidates(found: Rows) -> str:
    """Return the times of parts of a pack's step that were tried on their own, 24 runs each."""
    body = [[row["name"], f"{row['us']:,.1f} ({row['least']:,.1f}-{row['most']:,.1f})"] for row in found]
    return under(table(["part, 24 runs", "µs: median (range)"], body), found, PACKAGES)


def of(found: Rows, what: str, **fields: Any) -> Rows:
    """Return the rows of the measurement ``what`` that have these values."""
    return [row for row in found if row["what"] == what and all(row.get(key) == value for key, value in fields.items())]


def pipelines(found: Rows) -> str:
    rows = of(found, "pipeline")
    base = min(row["images_per_s"] for row in rows)
    header = ["pipeline", "recipe, output", "images/s: median (range)", "of the slowest", "CPU cores busy", "pixels"]
    body = []
    for row in rows:
        times, cores = f"{row['images_per_s'] / base:,.0f}×", f"{row['cores_busy']:.1f}"
        body.append([row["pipeline"], _work(row), ranged(row), times, cores, pixels(checked(row))])
    return table(header, body)


def contests(found: Rows) -> str:
    """Return the table of contests. A contest's rows follow the row of fastcifar's kernel, their base."""
    body, ours = [], None
    for row in of(found, "contest"):
        ours = row if row["kernel"] == "gpu" else ours
        if ours is None or not row["images_per_s"]:
            continue
        times = "" if row is ours else f"{ours['images_per_s'] / row['images_per_s']:.3g}×"
        share = _percent(row["ceiling_share"], 1)
        name = "**fastcifar**" if row is ours else row["kernel"]
        body.append([_work(row), name, ranged(row), share, times, row["reason"] or pixels(checked(row))])
    header = ["recipe, output", "kernel", "images/s: median (range)", "of the ceiling", "fastcifar is faster by"]
    absent = {f"{row['kernel']}: {row['reason']}": None for row in of(found, "contest", images_per_s=None)}
    return table([*header, "pixels"], body) + "".join(f"\nNo speed of {reason}.\n" for reason in absent)


def epochs(found: Rows) -> str:
    header = ["steps", "seconds an epoch", "images/s: median (range)", "µs a step (median)", "data stall"]
    body = []
    for row in of(found, "epoch"):
        name = MODES[row["mode"]] + ("" if row["deterministic"] else ", cuDNN free to choose its algorithms")
        stall = _percent(row["stall"], 1)
        body.append([name, f"{row['seconds']:.3f}", ranged(row), f"{row['step_us_p50']:,.0f}", stall])
    (same,) = of(found, "same losses")
    text = "the same bits" if same["verified"] else f"{same['differing']} of them differ"
    return table(header, body) + f"\nThe {same['values']} losses of the first epoch by graph and by launches: {text}.\n"


def ways(found: Rows) -> str:
    header = ["network, recipe", "way", "images/s, all runs: median (range)", "of serial", "µs a step", "peak GB"]
    body = []
    for row in of(found, "pack"):
        (serial,) = of(found, "pack", model=row["model"], way="serial")
        times, step = row["images_per_s"] / serial["images_per_s"], f"{1e6 * row['step_seconds']:,.0f}"
        body.append([f"{row['model']}, {row['recipe']}", row["way"], ranged(row), f"{times:.2f}×", step, _peak(row)])
    return table(header, body)


def grid(found: Rows) -> str:
    """Return the table of the experiments, as far as they were trained, and the sentence on the small grid."""
    parts = [_experiments(found, whole) for whole in of(found, "grid whole", failed=None)]
    for row in of(found, "grid", failed=None):
        each = row["epochs"] // row["runs"]
        parts.append(
            f"`fastcifar grid`, {row['runs']} runs of {each} epochs each, validation and files included: "
            f"{row['seconds']:.1f} s, or {row['runs_a_minute']:.0f} runs a minute; {row['wall_seconds']:.1f} s with "
            "the start of the processes.\n"
        )
    return "\n".join(parts)


def _experiments(found: Rows, whole: dict[str, Any]) -> str:
    """Return the table of the experiments' packs, with what was measured first, and the sentence on the whole grid."""
    header = ["experiment", "runs trained", "packs", "ways", "s an epoch of these runs", "s to measure the ways"]
    body = []
    for row in of(found, "grid experiment"):
        runs = f"{row['runs_trained']} of {row['runs']}"
        seconds = [f"{row[f'{name}_seconds']:.1f}" for name in ("epoch", "measuring", "opening")]
        span = whole["seconds_by_experiment"].get(str(row["experiment"]))
        ways = ", ".join(row["ways"])
        minutes = "" if span is None else _minutes(span)
        body.append([str(row["experiment"]), runs, str(row["packs_trained"]), ways, *seconds, minutes])
    lines = table([*header, "s to open and capture", "extrapolated: minutes of the protocol"], body)
    low, high = (f"{seconds / 60:.1f}" for seconds in whole["seconds"])
    text = (
        f"The runs had {whole['epochs']} epochs each, with validation and all files. Extrapolated to their protocol, "
        f"and not measured: {whole['runs']} runs take {low} minutes if all stop as early as they may, and {high} if "
        f"none does; {whole['start_seconds'] / 60:.1f} minutes of it come before the epochs."
    )
    if whole["packs_estimated"]:
        text += f" Of {whole['packs']} packs, {whole['packs_estimated']} are estimated by others of their shape."
    if whole["missing"]:
        text += f" Nothing was measured of {'; '.join(whole['missing'])}: these runs are missing."
    return f"Packs of the report's experiments:\n\n{lines}\n{text}\n"


def _minutes(span: list[float]) -> str:
    low, high = (seconds / 60 for seconds in span)
    return f"{low:.1f} to {high:.1f}"


def pretrained(found: Rows) -> str:
    header = ["steps", "images/s: median (range)", "data stall", "peak GB"]
    rows = of(found, "pretrained")
    return table(header, [[MODES[row["mode"]], ranged(row), _percent(row["stall"], 2), _peak(row)] for row in rows])


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with the key "verified". The row of a rival has "verified_pixels" instead."""
    return {"verified": row.get("verified_pixels"), **row}


def _runs(found: Rows) -> str:
    return " or ".join(str(count) for count in sorted({row["runs"] for row in of(found, "pack")}))


def _work(row: dict[str, Any]) -> str:
    return f"{row['recipe']}, {row['dtype']}"


def _percent(share: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} %"


def _peak(row: dict[str, Any]) -> str:
    return f"{row['peak_device_bytes'] / 1e9:.1f}"
