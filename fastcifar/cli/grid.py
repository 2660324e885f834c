"""The command ``fastcifar grid``: its options and output. The work is done in fastcifar.grid, which is imported when
the command runs.
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.cli.config import Config, merged
from fastcifar.cli.options import DATA, RUNS, Amp, Augmented, Batches, Data, Epochs, Json, RunsTo
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.console import console, say
from fastcifar.show.text import counted, parts

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def grid_command(
    exp: Annotated[str, typer.Option(help="Experiments, comma-separated: 1 MLP, 2 CNN, 3 ViT, 4 pretrained; or all.")],
    data: Data = DATA,
    protocol: Annotated[str, typer.Option(help="sound, report, as-run; comma-separated, or all.")] = "sound",
    model: Annotated[
        str | None, typer.Option(help="Your own network in place of the experiments', package.module:factory.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", callback=merged, help="key=value,value: set them in every configuration, all combinations."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(callback=merged, help="key=value,value: only configurations with one of the values."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated, or FIRST-LAST.")] = "0,1,2",
    augment: Augmented = None,
    epochs: Epochs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.")] = False,
    budget: Annotated[
        str | None, typer.Option(help="Time to spend, such as 90s, 45m, 2h or 1h30m; other runs are left for later.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local (every GPU of this machine) or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster; default: Ray's own choice.")] = None,
    device: Annotated[str, typer.Option(help="auto (every GPU, else the CPU), cpu, cuda or cuda:N.")] = "auto",
    amp: Amp = "auto",
    way: Annotated[
        str, typer.Option(help="How packs train: auto (by measurement), serial, side-by-side, grouped or im2col.")
    ] = "auto",
    pack: Annotated[int | None, typer.Option(min=1, help="The most runs of a pack; default: by the device.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="For experiment 4: none, or a file; default: ImageNet's, cached or downloaded.")
    ] = None,
    pipeline: Batches = "resident",
    log: Annotated[str, typer.Option(help="none, tensorboard, wandb or mlflow.")] = "none",
    out: RunsTo = RUNS,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Train a whole grid of configurations and seeds, many runs at a time, each with the results of a run alone.

    The plan is shown first. The command can be stopped at any time: the same command skips finished runs, continues
    unfinished ones and tries failed ones again. When two processes run the same command, they share the work.

    Examples: fastcifar grid --exp 2 --only batch_size=128 --only recipe=basic,erasing

    fastcifar grid --exp all --budget 2h

    fastcifar grid --exp 2 --executor ray --address auto
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
    from fastcifar.grid.packing import CHOOSABLE, Wanted, runs_of
    from fastcifar.grid.plan import Asked, plan, train_grid
    from fastcifar.recipes import recipes_of
    from fastcifar.runs.settings import SETTABLE, parse_choices
    from fastcifar.system.devices import device_of

    dataset, on = Dataset.open(data), device_of(device)
    limit = None if budget is None else budget_seconds(budget)
    overrides = parse_choices(settings or [], SETTABLE, "--set") | ({} if epochs is None else {"epochs": [epochs]})
    overrides |= {} if augment is None else {"recipe": recipes_of(augment)}
    wanted = Wanted(
        list(EXPERIMENTS) if exp == "all" else [_number(part) for part in parts(exp)],
        protocols=list(PROTOCOLS) if protocol == "all" else parts(protocol),
        seeds=_seeds(seeds),
        overrides=overrides,
        only=parse_choices(only or [], CHOOSABLE, "--only"),
        amp=amp,
        pipeline=pipeline,
        weights=weights,
        model=model,
    )
    runs = runs_of(wanted, dataset, on)
    asked = Asked(
        dataset, out, on, executor=executor, address=address, way=way, pack=pack, weights=weights, log=log,
        every_device=device in ("auto", "cuda"),
    )  # fmt: skip
    planned = plan(asked, runs, lambda text: say(text, stderr=True))
    if as_json and dry_run:
        print(json.dumps(planned.plain()))
        return
    if not as_json:
        console().print(planned.table())
        say(planned.sentence())
    for model, why in runs.left_out.items():
        say(f"left out: {model}: {why}", stderr=True)
    if dry_run:
        return
    try:
        results = train_grid(asked, planned, limit)
    except KeyboardInterrupt:
        say("stopped; the same command continues from the last whole epochs", stderr=True)
        sys.exit(130)
    _finish(planned, results, out, as_json)
    if results.failed or runs.left_out:
        raise FastcifarError(
            " and ".join(
                [f"{counted(len(results.failed), 'run')} failed; the same command tries again"] * bool(results.failed)
                + [f"{', '.join(runs.left_out)} left out, see above"] * bool(runs.left_out)
            )
        )


def _finish(plan: Any, results: Any, out: Path, as_json: bool) -> None:
    summaries = plan.summaries(out)
    if as_json:
        rows = [{"run_id": spec.run_id, **summary} for spec, summary in summaries]
        left = [spec.run_id for spec in results.left]
        clocks = {"seconds": results.seconds, "scheduler_seconds": results.own_seconds}
        print(json.dumps({"finished": rows, "failed": results.failed, "left": left, **clocks}))
        return
    from fastcifar.show.results import results_table
    from fastcifar.show.text import duration

    grouped: dict[str, list[Any]] = {}
    for spec, summary in summaries:
        grouped.setdefault(spec.label, []).append(summary)
    if grouped:
        console().print(results_table(grouped))
    rest = f"; {counted(len(results.left), 'run')} left for another time" if results.left else ""
    finished = f"{len(summaries)} of {counted(len(plan.specs), 'run')} finished{rest}"
    if results.seconds:
        spent, share = duration(results.seconds), results.own_seconds / results.seconds
        say(f"{spent}, of which {100 * share:.2f} % for leases, files and the table")
    say(f"{finished}; look at them: fastcifar runs --out {out}")


def budget_seconds(budget: str) -> float:
    """Return the seconds of a time such as 1h30m. Raises UsageError for anything else."""
    amounts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if not amounts or "".join(number + unit for number, unit in amounts) != budget:
        raise UsageError(f"--budget {budget!r} is not a time; write it as 90s, 45m, 2h or 1h30m")
    return sum(float(number) * UNITS[unit] for number, unit in amounts)


def _number(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"--exp {text!r} is not an experiment's number; choose 1, 2, 3, 4 or all")
    return int(text)


def _seeds(text: str) -> list[int]:
    spans = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in parts(text)]
    if not spans or None in spans:
        raise UsageError(f"--seeds {text!r} is not a list of seeds; write a list such as 0,1,2 or a span such as 0-9")
    numbers = [seed for span in spans if span is not None for seed in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text!r} names a seed twice, or none; name at least one seed, each once")
    return numbers
