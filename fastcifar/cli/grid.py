"""The command ``fastcifar grid``: its options and output. The work is done in fastcifar.grid, which is imported when
the command runs.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.cli.complete import choices, devices, executors, experiments, protocols, ways
from fastcifar.cli.complete import settings as completed
from fastcifar.cli.config import Config, merged
from fastcifar.cli.options import (
    DATA,
    RUNS,
    Amp,
    Augmented,
    Batches,
    Data,
    Epochs,
    Json,
    Logged,
    RunsTo,
    Unverified,
    Wide,
    budget_seconds,
    experiment_number,
    spanned,
)
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.console import command_name, console, next_step, note, say
from fastcifar.show.text import counted, parts


def grid_command(
    exp: Annotated[
        str,
        typer.Option(
            help="Experiments, comma-separated: 1 MLP, 2 CNN, 3 ViT, 4 pretrained; or all, as with --for-report.",
            autocompletion=choices(lambda: [*experiments(), "all"], several=True),
        ),
    ] = "",
    data: Data = DATA,
    protocol: Annotated[
        str,
        typer.Option(
            help="sound, report, as-run; comma-separated, or all.",
            autocompletion=choices(lambda: [*protocols(), "all"], several=True),
        ),
    ] = "sound",
    model: Annotated[
        str | None, typer.Option(help="Your own network in place of the experiments', package.module:factory.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            callback=merged,
            help="key=value,value: set them in every configuration, all combinations.",
            autocompletion=completed("--set", several=True),
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            callback=merged,
            help="key=value,value: only configurations with one of the values.",
            autocompletion=completed("--only", several=True),
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated, or FIRST-LAST.")] = "0,1,2",
    augment: Augmented = None,
    epochs: Epochs = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan with its hours on this machine, and train nothing.")
    ] = False,
    for_report: Annotated[
        bool,
        typer.Option(
            "--for-report", help="Train only the runs that the report's claims need: the most claims in --budget."
        ),
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="Time to spend, such as 90s, 45m, 2h or 1h30m; other runs are left for later.")
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local (every GPU of this machine) or ray.", autocompletion=choices(executors))
    ] = "local",
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster; default: Ray's own choice.")] = None,
    device: Annotated[
        str,
        typer.Option(help="auto (every GPU, else the CPU), cpu, cuda or cuda:N.", autocompletion=choices(devices)),
    ] = "auto",
    amp: Amp = "auto",
    way: Annotated[
        str,
        typer.Option(
            help="How packs train: auto (by measurement), serial, side-by-side, grouped, im2col or fused.",
            autocompletion=choices(ways),
        ),
    ] = "auto",
    pack: Annotated[int | None, typer.Option(min=1, help="The most runs of a pack; default: by the device.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="For experiment 4: none, or a file; default: ImageNet's, cached or downloaded.")
    ] = None,
    pipeline: Batches = "resident",
    log: Logged = "none",
    no_verify: Unverified = False,
    out: RunsTo = RUNS,
    wide: Wide = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Train a whole grid of configurations and seeds, many runs at a time, each with the results of a run alone.

    The plan is shown first. The command can be stopped at any time: the same command skips finished runs, continues
    unfinished ones and tries failed ones again. When two processes run the same command, they share the work.

    Examples: fastcifar grid --exp 2 --only batch_size=128 --only recipe=basic,erasing

    fastcifar grid --exp all --dry-run

    fastcifar grid --for-report --budget 2h

    fastcifar grid --exp 2 --executor ray --address auto
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
    from fastcifar.grid.asked import Asked, check_options
    from fastcifar.grid.wanted import CHOOSABLE, Wanted, check, runs_of
    from fastcifar.recipes import recipes_of
    from fastcifar.runs.settings import SETTABLE, parse_choices
    from fastcifar.system import caches, openmp
    from fastcifar.system.launch import check_device

    if not exp and not for_report:
        raise UsageError("grid needs experiments; give --exp 1,2,3,4 or --exp all, or --for-report")
    dataset, limit = Dataset.open(data, not no_verify), None if budget is None else budget_seconds(budget)
    overrides = parse_choices(settings or [], SETTABLE, "--set") | ({} if epochs is None else {"epochs": [epochs]})
    overrides |= {} if augment is None else {"recipe": recipes_of(augment)}
    wanted = Wanted(
        list(EXPERIMENTS) if exp in ("", "all") else [experiment_number(part) for part in parts(exp)],
        protocols=list(PROTOCOLS) if protocol == "all" else parts(protocol),
        seeds=spanned(seeds),
        overrides=overrides,
        only=parse_choices(only or [], CHOOSABLE, "--only"),
        amp=amp,
        pipeline=pipeline,
        weights=weights,
        model=model,
    )
    check(wanted, dataset)
    check_options(executor, address, way, log)
    check_device(device)
    note(f"{dataset.name}: making the plan; loading torch")
    openmp.choose(note)
    from fastcifar.grid import for_report as report
    from fastcifar.grid.plan import plan, train_grid
    from fastcifar.grid.speeds import Speeds
    from fastcifar.system.devices import device_of

    on = device_of(device)
    asked = Asked(
        dataset, out, on, executor=executor, address=address, way=way, pack=pack, weights=weights, log=log,
        every_device=device in ("auto", "cuda"),
    )  # fmt: skip
    runs, speeds = runs_of(wanted, dataset, on), Speeds(dataset, on)
    for text in runs.notes:
        note(text)
    choice = None
    if for_report:
        choice = report.choice_of(asked, runs, wanted.protocols, speeds, limit, note)
        runs = report.chosen(runs, choice)
    planned = plan(asked, runs, note, speeds if dry_run else None)
    if as_json and dry_run:
        print(json.dumps(planned.plain() | ({} if choice is None else {"report": choice.plain()})))
        return
    if not as_json:
        _show(planned, choice, wide)
    for model, why in runs.left_out.items():
        note(f"left out: {model}: {why}")
    if dry_run:
        next_step(*(word for word in sys.argv[1:] if word != "--dry-run"))
        return
    if choice is not None and choice.left and not choice.completed:
        raise UsageError(f"--budget {budget}: {choice.sentence()}; give more time")
    caches.tell_of_numba(note)  # here, since each worker would say it
    try:
        results = train_grid(asked, planned, limit)
    except KeyboardInterrupt:
        note("stopped; the same command continues from the last whole epochs")
        next_step(*sys.argv[1:])
        sys.exit(130)
    damaged = _finish(planned, results, out, wide, as_json)
    if results.failed or runs.left_out or damaged:
        raise FastcifarError(
            " and ".join(
                [f"{counted(len(results.failed), 'run')} failed; the same command tries again"] * bool(results.failed)
                + [f"{', '.join(runs.left_out)} left out, see above"] * bool(runs.left_out)
                + [f"{counted(len(damaged), 'run')} damaged, see above"] * bool(damaged)
            )
        )
    if not as_json:
        if results.left:
            next_step(*sys.argv[1:])
        else:
            next_step("report", "--runs", out, "--data", data)


def _show(plan: Any, choice: Any, wide: bool) -> None:
    on = console(wide)
    if choice is not None:
        on.print(choice.table())
        say(f"{choice.sentence()}\n")
    for table in plan.tables():
        on.print(table)
        say("")
    if plan.specs:
        say(plan.sentence())
    source = plan.source if choice is None else choice.source
    if source:
        say(source)


def _named(grouped: dict[tuple[str, int, str], list[Any]]) -> dict[str, list[Any]]:
    """Return groups of runs by a name: their label, with the experiment and the weights where it is that of several."""
    labels = [label for label, _, _ in grouped]
    return {
        label if labels.count(label) == 1 else f"{label}, experiment {number}, weights {weights}": of_group
        for (label, number, weights), of_group in grouped.items()
    }


def _finish(plan: Any, results: Any, out: Path, wide: bool, as_json: bool) -> list[str]:
    """Show the results, and return a message for each run that is damaged."""
    summaries, damaged = plan.summaries(out)
    if as_json:
        rows = [{"run_id": spec.run_id, **summary} for spec, summary in summaries]
        left = [spec.run_id for spec in results.left]
        clocks = {"seconds": results.seconds, "scheduler_seconds": results.own_seconds}
        print(json.dumps({"finished": rows, "failed": results.failed, "left": left, "damaged": damaged, **clocks}))
        return damaged
    from fastcifar.show.results import results_table
    from fastcifar.show.text import duration

    grouped: dict[tuple[str, int, str], list[Any]] = {}
    for spec, summary in summaries:
        grouped.setdefault((spec.label, spec.experiment, spec.weights), []).append(summary)
    if grouped:
        console(wide).print(results_table(_named(grouped)))
    rest = f"; {counted(len(results.left), 'run')} left for another time" if results.left else ""
    finished = f"{len(summaries)} of {counted(len(plan.specs), 'run')} finished{rest}"
    if results.seconds:
        spent, share = duration(results.seconds), results.own_seconds / results.seconds
        say(f"{spent}, of which {100 * share:.2f} % for leases, files and the table")
    say(f"{finished}; look at them: {shlex.join([command_name(), 'runs', '--out', str(out)])}")
    for message in damaged:
        note(message)
    return damaged
