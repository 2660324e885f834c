"""The command ``fastcifar bench``, also ``python bench/throughput.py`` in a checkout: its options. The work
is done in fastcifar.throughput, which is imported when the command runs; contest.py prints the output.
"""

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from fastcifar.cli.contest import Output, compare_files, hold_contest, look_at_machine, plot_file, show_file
from fastcifar.cli.options import Json, Wide, listed, positive
from fastcifar.errors import UsageError
from fastcifar.show.text import parts
from fastcifar.system.paths import path_of


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
            help=f"Comma-separated; by default {FULL.recipes.replace(',', ', ')}; {QUICK.recipes} when quick, "
            f"{TRAINING.recipes} in training, {OWN} with --loader."
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
    data: Annotated[
        Path | None, typer.Option(parser=path_of, help="Dataset directory; by default synthetic images.")
    ] = None,
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
    out: Annotated[Path, typer.Option(parser=path_of, help="The file of JSON lines to write.")] = Path(
        "throughput.jsonl"
    ),
    append: Annotated[bool, typer.Option("--append", help="Add to the rows that the file has already.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the rows that the file has.")] = False,
    share: Annotated[
        Path | None,
        typer.Option(
            parser=path_of, metavar="FILE.md", help="Also write the result as Markdown, to be pasted into an issue."
        ),
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
    doctor: Annotated[
        bool, typer.Option("--doctor", help="Only check what would spoil a benchmark. Exit code 1 if something would.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--rows", parser=path_of, metavar="ROWS", help="Only show the rows of a file, or --share them."),
    ] = None,
    plot: Annotated[
        tuple[Path, Path] | None, typer.Option(parser=path_of, metavar="ROWS PNG", help="Only draw the rows of a file.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(parser=path_of, metavar="OLD NEW", help="Only compare the rows of two files."),
    ] = None,
) -> None:
    """Time the pipelines: the same images, recipe and cores for each, a fresh process for each, in turns. Their pixels
    are compared with the reference in the same run, and a pipeline whose pixels are wrong gets no speed.

    With --loader the last line says whether your loader is the bottleneck. A file of rows is never replaced unasked.

    Example: fastcifar bench --quick --share result.md

    fastcifar bench --plot throughput.jsonl throughput.png

    fastcifar bench --loader my.py:make --models resnet18 --data data/cifar10
    """
    if share and (doctor or plot or compare):
        raise UsageError("--share is for rows that are timed now, or those of --rows FILE; leave it out here")
    output = Output(out, append, overwrite, as_json, wide, share)
    if doctor:
        sys.exit(0 if look_at_machine(as_json) else 1)
    if source or plot or compare:
        if source:
            show_file(source, output)
        if plot:
            plot_file(*plot)
        if compare:
            compare_files(*compare, as_json)
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
    matrix.require_full_batches(data, extent.images)
    hold_contest(matrix, rules, data, extent.images, output)


def _require_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise UsageError(f"--{name} {value:g} must be more than 0 seconds")
