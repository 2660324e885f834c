"""The table of the README's claims, made from rows: the claim, its figure, the hardware, the commit and the command."""

from typing import Any

from bench.tables.gpu import of
from fastcifar.show.markdown import Rows, table
from fastcifar.show.provenance import commits, hardware

GPU_CHECK, PARITY = "`make gpu-check`", "`python bench/parity.py`"
TRAINING = "`python bench/training.py --data data/cifar10`"


def claims(gpu: Rows, stacks: Rows, training: Rows, parity: Rows) -> str:
    """Return a table with five lines, from the rows of `make gpu-check`, bench/training.py and bench/parity.py.

    stacks: the rows of a later GPU check, for the line about packs.
    """
    return table(
        ["claim", "figure", "hardware", "commit", "command"],
        [kernel(gpu), pipeline(gpu), epoch(gpu, training), packs(stacks), pixels(gpu, parity)],
        numbers=False,
    )


def kernel(gpu: Rows) -> list[str]:
    """Return the cells of the claim about the GPU kernel: its speed and its ratio to each rival of its contest."""
    contests = of(gpu, "contest", recipe="erasing")
    times, ours = {}, contests[0]
    for row in contests:
        ours = row if row["kernel"] == "gpu" else ours
        if row["images_per_s"]:
            times[row["kernel"]] = ours["images_per_s"] / row["images_per_s"]
    return [
        f"The GPU kernel that flips, jitters, rotates and erases images is fast (32 × 32, {ours['dtype']})",
        f"{ours['images_per_s'] / 1e6:.0f} million images/s, {times['torch compiled']:.1f} times as fast as "
        f"`torch.compile`, {times['torchvision batch']:.0f} times as fast as torchvision's batch transforms",
        *where([ours], GPU_CHECK),
    ]


def pipeline(gpu: Rows) -> list[str]:
    """Return the line of the pipeline ``resident`` against torchvision's, each in a process of its own."""
    (ours,), (theirs,) = (of(gpu, "pipeline", pipeline=name) for name in ("resident", "torchvision"))
    return [
        "The pipeline `resident` makes the same batches faster than torchvision's DataLoader on "
        f"{theirs['threads']} cores",
        f"{ours['images_per_s'] / 1e6:.1f} million images/s, {ours['images_per_s'] / theirs['images_per_s']:.0f} times "
        "as fast",
        *where([ours, theirs], GPU_CHECK),
    ]


def epoch(gpu: Rows, training: Rows) -> list[str]:
    """Return the line of an epoch: our fastest loop against the fastest plain loop on a CPU, and ours on a GPU."""
    ours = min((row for row in training if row["loop"].startswith("fastcifar")), key=lambda row: row["seconds"])
    plain = min((row for row in training if row["loop"].startswith("plain")), key=lambda row: row["seconds"])
    on_gpu = min(of(gpu, "epoch", deterministic=True), key=lambda row: row["seconds"])
    return [
        f"An epoch of a small CNN ({ours['images']:,} images, {ours['dtype']}) is faster than in a plain PyTorch loop "
        f"(PNG files, {plain['dtype']})",
        f"{ours['seconds']:.1f} s on the CPU, {plain['seconds'] / ours['seconds']:.1f} times as fast; on the GPU, "
        f"where no plain loop was timed, {on_gpu['seconds']:.2f} s",
        *where([ours, plain, on_gpu], f"{TRAINING}; {GPU_CHECK}"),
    ]


def packs(gpu: Rows) -> list[str]:
    """Return the line of runs that train together: the fastest way of each network against one run after another."""
    rows, times = of(gpu, "pack"), {}
    for serial in of(rows, "pack", way="serial"):
        fastest = max(of(rows, "pack", model=serial["model"]), key=lambda row: row["images_per_s"])
        times[serial["model"]] = fastest["images_per_s"] / serial["images_per_s"]
    (runs,) = {row["runs"] for row in rows}
    return [
        f"{runs} runs that train as one program are faster than one after another (CUDA graphs, training steps only)",
        ", ".join(f"{model} {ratio:.1f} times" for model, ratio in times.items()),
        *where(rows, GPU_CHECK),
    ]


def pixels(gpu: Rows, parity: Rows) -> list[str]:
    """Return the line of pixels: the kernel compared with the definition, and the definition with torchvision.

    Raises ValueError where bits differ.
    """
    bits = of(gpu, "bits")
    if not all(row["verified"] for row in bits):
        raise ValueError("the rows of the GPU check have pixels that differ from the definition")
    most = max(row["reference_torchvision"] for row in parity)
    apart, total = (sum(row[key] for row in parity) for key in ("apart", "pixels"))
    return [
        "The GPU kernel's pixels equal the definition bit for bit, and the definition equals torchvision to rounding",
        f"0 of {sum(row['values'] for row in bits) / 1e6:.0f} million values differ; at most {most:.1e} from "
        f"torchvision, except at {apart} of {total / 1e9:.1f} billion pixels",
        *where([*bits, *parity], f"{GPU_CHECK}; {PARITY}"),
    ]


def where(rows: list[dict[str, Any]], command: str) -> list[str]:
    """Return the hardware and the commits of the rows, and the command."""
    machines = {hardware(row["environment"], row.get("device", "cpu")): None for row in rows}
    return ["; ".join(machines), commits(row["environment"] for row in rows), command]
