"""The command ``fastcifar bench``, also ``python bench/throughput.py`` in a checkout: its options and output. The work
is done in fastcifar.throughput, which is imported when the command runs.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from fastcifar.cli.options import listed, positive
from fastcifar.show.text import parts


class Extent(NamedTuple):
    """The default recipes, batch sizes, number of images, and seconds a turn."""

    recipes: str
    batch_sizes: str
    images: int
    seconds: float


FULL = Extent("none,basic,erasing,imagenet256,imagenet384", "512", 50_000, 2.0)
QUICK = Extent("erasing", "512", 10_000, 0.5)
TRAINING = Extent("basic", "128", 50_000, 5.0)
QUICK_TRAINING = Extent("basic", "128", 10_000, 1.0)
OWN = "standard"  # the recipe beside one's own loader


def bench_command(
    quick: Annotated[bool, typer.Option("--quick", help="One recipe, fewer images, shorter turns: minutes.")] = False,
    pipelines: Annotated[str, typer.Option(help="Comma-separated; by default all pipelines.")] = "",
    loaders: Annotated[
        list[str] | None,
        typer.Option(
            "--loader",
            help="Your own loader, FILE.py:FUNCTION or package.module:FUNCTION, beside resident or --pipelines. The "
            "function is called as make(dataset_path, batch_size, device) or make(), and returns an iterable of "
            "(images, labels) or (images, labels, ids). May be repeated.",
        ),
    ] = None,
    recipes: Annotated[
        str,
        typer.Option(
            help=f"Comma-separated; by default {FULL.recipes}; {QUICK.recipes} when quick, {TRAINING.recipes} in "
            f"training, {OWN} with --loader."
        ),
    ] = "",
    batch_sizes: Annotated[
        str,
        typer.Option(help=f"Comma-separated; by default {FULL.batch_sizes}, in training {TRAINING.batch_sizes}."),
    ] = "",
    devices: Annotated[str, typer.Option(help="Comma-separated, of auto, cpu, cuda, cuda:N.")] = "auto",
    dtypes: Annotated[str, typer.Option(help="Comma-separated, of float32, bfloat16, float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="CPU cores for each; by default all that are usable.")] = None,
    models: Annotated[str, typer.Option(help="Train these on the batches: cnn, resnet18. By default none.")] = "",
    data: Annotated[Path | None, typer.Option(help="Dataset directory; by default synthetic images.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed turns of each; a claim needs at least 5.")] = 5,
    seconds: Annotated[
        float | None,
        typer.Option(
            help=f"The shortest time of a turn; by default {FULL.seconds:g}, {QUICK.seconds:g} when quick, "
            f"{TRAINING.seconds:g} in training."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which a silent pipeline is left out.")] = 300,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Also time pipelines that could not be verified, and mark them.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The file of JSON lines to write.")] = Path("throughput.jsonl"),
    plot: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="ROWS PNG", help="Only draw the rows of a file.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="OLD NEW", help="Only compare the rows of two files.")
    ] = None,
) -> None:
    """Time the pipelines: the same images, recipe and cores for each, a fresh process for each, in turns. Their pixels
    are compared with the reference in the same run, and a pipeline whose pixels are wrong gets no speed.

    With --loader the last line says whether your loader is the bottleneck.

    Example: fastcifar bench --quick && fastcifar bench --plot throughput.jsonl throughput.png

    fastcifar bench --loader my.py:make --models resnet18 --data data/cifar10
    """
    if plot or compare:
        _show(plot, compare)
        return
    _require_positive(seconds=seconds, timeout=timeout)
    from fastcifar.recipes import recipes_of
    from fastcifar.throughput.matrix import Matrix

    extent = (QUICK_TRAINING if quick else TRAINING) if models else (QUICK if quick else FULL)
    matrix = Matrix(
        pipelines=parts(pipelines),
        recipes=recipes_of(recipes or (OWN if loaders else extent.recipes)),
        batch_sizes=listed(
            batch_sizes or extent.batch_sizes, "--batch-sizes", positive, "positive integers such as 64,512"
        ),
        devices=parts(devices),
        models=parts(models),
        dtypes=parts(dtypes),
        threads=threads,
        loaders=loaders or [],
    )
    rules = {"repeats": repeats, "seconds": seconds or extent.seconds, "timeout": timeout, "unverified": unverified}
    _run(matrix, rules, data, extent.images, out)


def _run(matrix: Any, rules: dict[str, Any], data: Path | None, images: int, out: Path) -> None:
    """Run all heats and write the rows after each heat. A terminal shows the table as it grows."""
    from rich.live import Live

    from fastcifar.errors import FastcifarError
    from fastcifar.system.measure import write_bandwidth
    from fastcifar.throughput import answer, rows, table
    from fastcifar.throughput.entrant import Rules
    from fastcifar.throughput.heat import hold
    from fastcifar.throughput.matrix import opened

    console = Console() if sys.stdout.isatty() else Console(width=200)
    collected: list[dict[str, Any]] = []
    with opened(data, images) as dataset:
        heats = matrix.heats(dataset)
        threads = heats[0][0].threads
        ceilings = {device: write_bandwidth(device, threads) for device in {heat[0].device for heat in heats}}
        held_by = Rules(**rules, write_bandwidth=ceilings)
        # no background thread refreshes the table, because nothing may run beside the timed pipelines
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def watch(unfinished: list[dict[str, Any]]) -> None:
                if console.is_terminal:
                    live.update(table.results(collected + unfinished), refresh=True)

            for heat in heats:
                collected += hold(heat, held_by, watch)
                rows.write(collected, out)
    console.print(table.results(collected))
    console.print(f"{dataset.name}; rows in {out}", highlight=False, soft_wrap=True)
    for sentence in answer.answers(collected, matrix.loaders):
        console.print(sentence, highlight=False, soft_wrap=True, markup=False)
    if failed := answer.failures(collected, matrix.loaders):
        raise FastcifarError("; ".join(failed))


def _show(drawn: tuple[Path, Path] | None, compared: tuple[Path, Path] | None) -> None:
    from fastcifar.throughput import rows

    if drawn:
        from fastcifar.throughput.plot import plot

        plot(rows.read(drawn[0]), drawn[1])
        print(f"picture: {drawn[1]}")
    if compared:
        from fastcifar.throughput.compare import changes, comparison, widest

        ratios = changes(*map(rows.read, compared))
        (Console() if sys.stdout.isatty() else Console(width=160)).print(comparison(ratios))
        print(f"the ratio of two contestants of a heat changed by at most {widest(ratios):.1%}")


def _require_positive(**values: float | None) -> None:
    from fastcifar.errors import UsageError

    for name, value in values.items():
        if value is not None and not value > 0:
            raise UsageError(f"--{name} {value:g} must be more than 0 seconds")
