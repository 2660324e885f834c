"""What ``fastcifar bench`` does with its options: hold the contest, show rows, compare and draw them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastcifar.errors import FastcifarError
from fastcifar.show.console import console, note, say
from fastcifar.show.progress import Sparse
from fastcifar.show.text import counted


class Output(NamedTuple):
    """Where the rows go, and how they are shown."""

    out: Path
    append: bool
    overwrite: bool
    as_json: bool
    wide: bool
    share: Path | None


def hold_contest(matrix: Any, rules: dict[str, Any], data: Path | None, images: int, output: Output) -> None:
    """Run all heats and write the rows after each heat. A terminal shows the table of a heat as it grows.

    matrix: a `throughput.matrix.Matrix`. rules: the arguments of `Rules`. images: the number of synthetic images where
    data is None. Raises UsageError, before anything is timed, for files that must not be replaced.
    """
    from rich.live import Live

    from fastcifar.system import caches, quiet
    from fastcifar.system.measure import write_bandwidth
    from fastcifar.throughput import answer, rows, share, table
    from fastcifar.throughput.entrant import Rules
    from fastcifar.throughput.heat import hold
    from fastcifar.throughput.matrix import opened

    before = rows.kept(output.out, output.append, output.overwrite)
    share.require_own(output.share)
    for sentence in quiet.spoiling(quiet.look()):
        note(f"this may spoil the benchmark: {sentence}")
    caches.tell_of_numba(note)  # here, since nobody reads what the contestants' processes say
    screen, sparse = console(), Sparse()
    collected: list[dict[str, Any]] = []
    with opened(data, images) as dataset:
        heats = matrix.heats(dataset)
        threads = heats[0][0].threads
        ceilings = {device: write_bandwidth(device, threads) for device in {heat[0].device for heat in heats}}
        held_by = Rules(**rules, write_bandwidth=ceilings)
        for number, heat in enumerate(heats, 1):
            # no background thread refreshes the table, because nothing may run beside the timed pipelines
            with Live(console=screen, auto_refresh=False, transient=True) as live:

                def watch(unfinished: Sequence[dict[str, Any]], live: Live = live, number: int = number) -> None:
                    if not screen.is_terminal:
                        turns = sum(row["repeats"] or 0 for row in unfinished)
                        sparse.line(lambda: f"heat {number} of {len(heats)}: {counted(turns, 'turn')} so far")
                    elif not output.as_json:
                        title = f"{table.named(unfinished[0], ())} (heat {number} of {len(heats)})"
                        live.update(table.HeatTable(unfinished, title), refresh=True)

                collected += hold(heat, held_by, watch)
            rows.write([*before, *collected], output.out)
    if output.share:
        share.write(collected, output.share)
    show(collected, output, matrix.loaders, dataset.name)
    if failed := answer.failures(collected, matrix.loaders):
        raise FastcifarError("; ".join(failed))
    if not any(row["images_per_s"] for row in collected):
        raise FastcifarError("no contestant could be timed; the reasons are above")


def show(rows: Sequence[dict[str, Any]], output: Output, loaders: Sequence[str] = (), dataset: str = "") -> None:
    """Print the rows as tables with sentences below them, or as JSON. dataset: its name, where it was just timed."""
    from fastcifar.throughput import answer, table
    from fastcifar.throughput.conclusion import caveats, conclusion

    if output.as_json:
        print(json.dumps(list(rows)))
        return
    common, screen = table.shared(rows), console(output.wide)
    for heat in table.heats_of(rows):
        screen.print(table.HeatTable(heat, table.named(heat[0], common)))
        say("")
    say(" ".join(filter(None, [table.caption(common, output.wide), f"Dataset: {dataset}." if dataset else ""])))
    for sentence in [*table.reasons(rows), *caveats(rows)]:
        say(sentence)
    say(f"rows: {output.out}" + (f"; to be pasted into an issue: {output.share}" if output.share else ""))
    for sentence in [conclusion(rows), *answer.answers(rows, loaders)]:
        say(sentence)


def show_file(path: Path, output: Output) -> None:
    """Show the rows of a file, and write the file to share if one is named."""
    from fastcifar.throughput import rows, share

    share.require_own(output.share)
    found = rows.contests(path)
    if output.share:
        share.write(found, output.share)
    show(found, output._replace(out=path))


def compare_files(old: Path, new: Path, as_json: bool) -> None:
    """Print how the rows of a file differ from those of an older one."""
    from dataclasses import asdict

    from fastcifar.throughput import rows
    from fastcifar.throughput.compare import changes, comparison, widest

    found = changes(rows.contests(old), rows.contests(new))
    if as_json:
        print(json.dumps([asdict(change) for change in found]))
        return
    for table in comparison(found):
        console().print(table)
        say("")
    say(f"the ratio of two contestants of a heat changed by at most {widest(found):.1%}")


def plot_file(source: Path, picture: Path) -> None:
    """Draw the rows of a file."""
    from fastcifar.throughput import rows
    from fastcifar.throughput.plot import plot

    plot(rows.contests(source), picture)
    say(f"picture: {picture}")


def look_at_machine(as_json: bool) -> bool:
    """Print what would spoil a benchmark on this machine, and return whether nothing would."""
    from dataclasses import asdict

    from fastcifar.system import quiet

    found = quiet.look()
    if as_json:
        print(json.dumps([asdict(check) for check in found]))
    else:
        for check in found:
            say(f"{'ok' if check.ok else 'BAD':4} {check.name}: {check.detail}" + (f"; {check.cure}" * (not check.ok)))
        bad = len(quiet.spoiling(found))
        say("a benchmark can begin" if not bad else f"{counted(bad, 'thing')} would spoil a benchmark")
    return all(check.ok for check in found)
