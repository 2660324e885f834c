"""The ``fastcifar`` command: options and what is printed. What is done stands elsewhere, imported when it is needed,
so that ``--help`` and shell completion answer at once.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import fastcifar
from fastcifar.browsing import runs
from fastcifar.diagnose.command import diagnose
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.command import grid
from fastcifar.predict import predict
from fastcifar.printing import console as _console
from fastcifar.printing import say as _say
from fastcifar.study.command import report
from fastcifar.throughput.command import bench

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
_debug = False

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, for scripts.")]
Data = Annotated[Path, typer.Option(help="Dataset directory, made by `fastcifar convert`.")]
DATA = Path("data/cifar10")


def main() -> None:
    """Run the command line. Exit code 2 for misuse, 1 for failure, 130 for Ctrl-C, 143 for SIGTERM; tracebacks only
    with --debug.
    """
    # unwinds as Ctrl-C does, so that half-written files are removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app(prog_name="fastcifar")  # by python -m too: completion goes by this name
    except (FastcifarError, OSError) as error:
        if _debug:
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_plain(text)}")
        sys.exit(error.exit_code if isinstance(error, FastcifarError) else 1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastcifar {fastcifar.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Convert CIFAR-10 once, train the report's experiments on it, and trust the numbers.

    Example: fastcifar convert cifar-10.zip data/cifar10 && fastcifar train --exp 2 --data data/cifar10
    """
    global _debug
    _debug = debug


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Kaggle's cifar-10.zip or folder; the original python or binary archive; a folder, tar or zip of "
            "class folders of PNG or JPEG; cifar10 (download), digits (built in) or synthetic:N."
        ),
    ],
    dest: Annotated[Path, typer.Argument(help="The dataset directory to make.")],
    formats: Annotated[str, typer.Option(help="Of raw (always written), ffcv, dali; comma-separated.")] = "raw",
    split_seed: Annotated[int, typer.Option(help="Seed of the 4:1 training/validation split.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset at DEST.")] = False,
    as_json: Json = False,
) -> None:
    """Turn a source into a dataset directory: wholly, or not at all.

    Example: fastcifar convert ~/Downloads/cifar-10.zip data/cifar10 --formats raw,ffcv,dali
    """
    from fastcifar.convert import convert as convert_source

    dataset = convert_source(source, dest, _comma_separated(formats), split_seed, overwrite)
    if as_json:
        print(json.dumps(dataset.manifest))
        return
    counts = ", ".join(f"{count:,} {part}" for part, count in dataset.manifest["counts"].items())
    _say(f"{dest}: {counts} images of {len(dataset.classes)} classes, from {dataset.name}")


@app.command()
def verify(dest: Annotated[Path, typer.Argument(help="A dataset directory.")], as_json: Json = False) -> None:
    """Hash a dataset's files again and compare with its manifest.

    Example: fastcifar verify data/cifar10
    """
    from fastcifar.dataset import verify as verify_dataset

    dataset = verify_dataset(dest)
    if as_json:
        print(json.dumps({"path": str(dest), "sha256": dataset.sha256, "files": len(dataset.manifest["files"])}))
    else:
        _say(f"{dest}: all {len(dataset.manifest['files'])} files are as they were written ({dataset.sha256[:12]})")


@app.command()
def train(
    exp: Annotated[int, typer.Option(help="Experiment: 1 MLP, 2 CNN, 3 ViT, 4 pretrained networks.")],
    data: Data = DATA,
    model: Annotated[
        str | None,
        typer.Option(help="One of the experiment's, see `fastcifar list`; for 4 any of torchvision's, or timm:NAME."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="For 4: a .pth or .safetensors file, or none; default: ImageNet's, cached or downloaded."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    protocol: Annotated[str, typer.Option(help="sound, report or as-run.")] = "sound",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value: batch_size, lr, l2, dropout, recipe, tune (full, head, as-run). May be repeated."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many (early stopping may end a run before).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    amp: Annotated[str, typer.Option(help="auto, off, bfloat16 or float16.")] = "auto",
    compile_: Annotated[
        str, typer.Option("--compile", help="auto (the fastest by measurement), graph, inductor or none.")
    ] = "auto",
    pipeline: Annotated[str, typer.Option(help="Where batches come from; `fastcifar list pipelines`.")] = "resident",
    log: Annotated[str, typer.Option(help="none, or tensorboard: events in each run's folder.")] = "none",
    out: Annotated[Path, typer.Option(help="Where run directories go.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train an experiment's headline configuration with three seeds, and tabulate it.

    Interrupt it whenever you like: the same command goes on where it was, with the same metrics.

    Examples: fastcifar train --exp 2 --data data/cifar10 --set recipe=erasing --seeds 0,1,2

    fastcifar train --exp 4 --model efficientnet_v2_s --data data/cifar10

    torchrun --nproc-per-node=gpu -m fastcifar train --exp 4 --data data/cifar10
    """
    from fastcifar import session
    from fastcifar.dataset import Dataset
    from fastcifar.devices import device_of
    from fastcifar.distributed import leads
    from fastcifar.events import log_of
    from fastcifar.runs import SETTABLE, parse_overrides

    events = log_of(log)
    dataset, on = Dataset.open(data), device_of(device)
    initial = session.weights_for(exp, model, weights)
    overrides = parse_overrides(settings or [], SETTABLE) | ({} if epochs is None else {"epochs": epochs})
    specs = session.plan(
        exp,
        dataset,
        model=model,
        protocol=protocol,
        seeds=_integers(seeds),
        overrides=overrides,
        precision=session.precision_of(amp, on, exp),
        pipeline=pipeline,
        weights=initial.identity,
    )
    say = _note if leads() else lambda text: None
    say(f"{dataset.name} on {on}, {specs[0].precision}, {len(specs)} runs into {out}/exp{exp}")
    try:
        done = session.run(specs, dataset, out, on, compile_, say, initial.tensors, events)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from the last whole epoch")
        sys.exit(130)
    if not leads():
        return
    if as_json:
        print(json.dumps([{"run_id": spec.run_id, **summary} for spec, summary in zip(specs, done.summaries)]))  # noqa: B905
        return
    _show(done, out / f"exp{exp}" / f"{specs[0].label}.png")


app.command()(grid)
app.command()(predict)
app.command()(runs)
app.command()(report)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="experiments, recipes, pipelines, runs or all.")] = "all",
    out: Annotated[Path, typer.Option(help="Where run directories are.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show experiments with their models, recipes, pipelines (with what is missing and why), and runs.

    Example: fastcifar list pipelines
    """
    from fastcifar.report import listing

    sections = listing.sections(what, out)
    if as_json:
        print(json.dumps(sections))
        return
    for table in listing.tables(sections):
        _console().print(table)


@app.command()
def preview(
    data: Data = DATA,
    recipe: Annotated[str, typer.Option(help="A recipe of `fastcifar list recipes`.")] = "erasing",
    rows: Annotated[int, typer.Option(help="Images.")] = 8,
    columns: Annotated[int, typer.Option(help="Draws of each, beside the image itself.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("preview.png"),
) -> None:
    """Draw sample images under a recipe: rows are images, columns are draws.

    Example: fastcifar preview --data data/cifar10 --recipe erasing --out erasing.png
    """
    from fastcifar.dataset import Dataset
    from fastcifar.experiments import PROTOCOLS
    from fastcifar.report.preview import preview as draw_preview

    draw_preview(Dataset.open(data), PROTOCOLS["sound"].recipe(recipe), out, rows, columns, seed)
    _say(f"{out}: {rows} images, each as it is and in {columns} draws of {recipe}")


app.command()(bench)
app.add_typer(diagnose, name="diagnose")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, what it lacks, and the cure. Exit code 1 when something required is missing.

    Example: fastcifar doctor
    """
    from fastcifar import doctor as examination

    findings = examination.diagnose()
    if as_json:
        print(json.dumps(examination.rows(findings)))
    else:
        _console().print(examination.table(findings))
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where its dataset, runs and picture go.")] = Path("demo"),
) -> None:
    """Convert the built-in handwritten digits, train experiment 2 on them with three seeds, show the results.

    Example: fastcifar demo
    """
    from fastcifar import demonstration

    done = demonstration.run(folder, _note)
    _show(done, folder / "curves.png")
    _say(demonstration.NEXT)


def _show(done: Any, picture: Path) -> None:
    from fastcifar.report.table import results_table

    _console().print(results_table(done.by_configuration()))
    done.draw_curves(picture)
    _say(f"picture: {picture}")


def _comma_separated(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _integers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in _comma_separated(text)]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text!r} is not a list of different integers such as 0,1,2")
    return numbers


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _note(text: str) -> None:
    _say(text, stderr=True)
