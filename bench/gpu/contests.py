"""Contests on a device: pipelines, each in a process of its own, and kernels in this process."""

from contextlib import suppress
from typing import Any

import torch

from bench.gpu.notes import Notes
from bench.lib.device import bandwidth
from fastcifar.errors import UsageError
from fastcifar.system.measure import write_bandwidth
from fastcifar.throughput.entrant import Rules
from fastcifar.throughput.heat import hold
from fastcifar.throughput.matrix import Matrix, opened

OURS = "resident"
PIPELINES = (OURS, "torchvision", "dali", "ffcv")
RECIPES = ("erasing", "imagenet384")  # the recipe with all operations first
AIRBENCH = ("airbench94", "airbench96")
IMAGES, BATCH = 10_000, 512
REPEATS, SECONDS, TIMEOUT = 5, 0.5, 60.0


def installed() -> list[str]:
    """Return the pipelines whose libraries are installed. A missing one would only give a row without a speed."""
    from fastcifar.data.formats import extra_formats

    there = list(PIPELINES[:2])
    for name in PIPELINES[2:]:
        with suppress(UsageError):
            extra_formats([name])
            there.append(name)
    return there


def pipelines(notes: Notes) -> None:
    """Write a row for each pipeline, then for each kernel, recipe by recipe. Kernels compiled by torch.compile come
    last: compiling can take longer than the rest of the step's time, and would cost the other rows.
    """
    with notes.trying("pipeline", f"pipelines, {RECIPES[0]}"):
        pipeline_race(notes, RECIPES[0])
    for others in (("torchvision batch", "kornia"), ("torch compiled",)):
        for recipe in RECIPES[:1] if notes.tiny else RECIPES:
            with notes.trying("contest", f"kernels, {recipe}, against {' and '.join(others)}"):
                kernel_contest(notes, recipe, others)
        if others[0] != "torch compiled":
            for recipe in AIRBENCH[:1] if notes.tiny else AIRBENCH:
                with notes.trying("pipeline", f"airbench's loader, {recipe}"):
                    pipeline_race(notes, recipe, f"bench.rivals.airbench:{recipe}")


def pipeline_race(notes: Notes, recipe: str, loader: str | None = None) -> None:
    """Run a heat and write its rows. When the heat is stopped early, the rows have the rounds so far and say so.

    loader: the loader of another project that runs against resident alone; None: all pipelines run.
    """
    names = [OURS] if loader else list(PIPELINES[:2]) if notes.tiny else installed()
    device = str(notes.device)
    with opened(None, 60 if notes.tiny else IMAGES) as dataset:
        sizes, loaders = [24 if notes.tiny else BATCH], [loader] if loader else []
        matrix = Matrix(names, [recipe], sizes, [device], dtypes=["bfloat16"], loaders=loaders)
        (heat,) = matrix.heats(dataset)
        rules = Rules(
            repeats=1 if notes.tiny else REPEATS, seconds=0.01 if notes.tiny else SECONDS, timeout=TIMEOUT,
            write_bandwidth={} if notes.tiny else {device: write_bandwidth(device, heat[0].threads)},
        )  # fmt: skip
        latest: list[dict[str, Any]] = []

        def watch(rows: list[dict[str, Any]]) -> None:
            latest[:] = rows

        whole = False
        try:
            latest[:] = hold(heat, rules, watch)
            whole = True
        finally:
            for row in latest:
                _pipeline(notes, row, whole)


def _pipeline(notes: Notes, row: dict[str, Any], whole: bool) -> None:
    speed = f"{row['images_per_s']:,.0f} images/s" if row["images_per_s"] else f"no speed: {row['reason']}"
    says = f"pipeline {row['pipeline']}, {row['recipe']} {row['dtype']}: {speed}{'' if whole else ', not all rounds'}"
    if row["pipeline"] != OURS:  # a deviation or failure of another pipeline is no failure of the check
        row = {**row, "verified_pixels": row["verified"]}
        del row["verified"]
    fields = {key: value for key, value in row.items() if key not in ("environment", "device")}
    notes.row("pipeline", says, whole=whole, **fields)


def kernel_contest(notes: Notes, recipe: str, others: tuple[str, ...]) -> None:
    """Run a contest of our kernel and others, each compared before it is timed. The check fails for our pixels only."""
    from bench.kernels import OnGpu

    tiny: dict[str, Any] = {"compiles": False, "sets": 1} if notes.tiny else {}
    held = OnGpu(notes.device, bandwidth(notes.device, *((1 << 20, 1, 2) if notes.tiny else ())))
    dtype, batch = torch.bfloat16, 2 if notes.tiny else held.batch(recipe)
    for row in held.rows(recipe, dtype, batch, 1 if notes.tiny else REPEATS, ("gpu", *others), **tiny):
        speed = f"{row['images_per_s']:,.0f} images/s" if row["images_per_s"] else "no speed"
        remark = f" ({row['reason']})" if row["reason"] else ""
        if row["kernel"] != "gpu":
            row["verified_pixels"] = row.pop("verified")
        notes.row(
            "contest", f"kernel {row['kernel']}, {recipe} bfloat16: {speed}{remark}", recipe=recipe, dtype="bfloat16",
            batch_size=batch, **row,
        )  # fmt: skip
