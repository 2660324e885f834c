"""The ``fastcifar`` command: its sub-commands, its exit codes, and how an error is shown.

Each sub-command has a file of its own beside this one, with its options and its output. Libraries that do the work are
imported only when a command runs, so that ``--help`` and shell completion answer at once.
"""

import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from fastcifar.cli.bench import bench_command
from fastcifar.cli.convert import convert_command, verify_command
from fastcifar.cli.demo import demo_command
from fastcifar.cli.diagnose import diagnose
from fastcifar.cli.doctor import doctor_command
from fastcifar.cli.grid import grid_command
from fastcifar.cli.list import list_command
from fastcifar.cli.predict import predict_command
from fastcifar.cli.preview import preview_command
from fastcifar.cli.report import report_command
from fastcifar.cli.runs import runs_command
from fastcifar.cli.train import train_command
from fastcifar.cli.words import whole_words
from fastcifar.errors import FastcifarError
from fastcifar.show import streams
from fastcifar.version import __version__

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
_debug = False


def main() -> None:
    """Run the command line. Exit code 2 for misuse, 1 for failure, 130 for Ctrl-C, 141 where nobody reads the output
    any more, 129 for SIGHUP and 143 for SIGTERM. A traceback is shown only with --debug.
    """
    streams.prepare()
    _end_at_signals()
    try:
        try:
            with whole_words(os.environ):
                app(prog_name="fastcifar")  # also under python -m, because shell completion uses this name
        finally:
            sys.stdout.flush()  # Python's own flush, at the exit, would report an error as ignored
    except (FastcifarError, OSError) as error:
        if _debug:
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error:", "bold red"), f" {text}"))
        sys.exit(error.exit_code if isinstance(error, FastcifarError) else 1)


def _end_at_signals() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises an exception, so that half-written files are removed.

    A terminal that closes may send both, so only the first counts. SIGHUP stays ignored where it is, as under nohup.
    """
    ending = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def end(number: int, _: object) -> None:
        for each in ending:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in ending:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fastcifar {__version__}")
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
    import_module("fastcifar.system.locks")  # says in one sentence what Windows lacks
    import_module("fastcifar.system.caches").choose()


for command in (
    convert_command,
    verify_command,
    train_command,
    grid_command,
    predict_command,
    runs_command,
    report_command,
    list_command,
    preview_command,
    bench_command,
    doctor_command,
    demo_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)
app.add_typer(diagnose, name="diagnose")
