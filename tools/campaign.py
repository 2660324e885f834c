"""Attack fastcifar for half an hour, and count what became of each attack.

    python tools/campaign.py --rows bench/results/campaign-cpu.jsonl
    python bench/readme.py                                              # writes the table of docs/reliability.md

The attacks: commands that are killed at random moments, bits that flip in every file of a dataset and of a run, values
of JSON that are changed, hostile archives, and resources that run short. tests/faults/ has a short form of them. The
exit status is 1 if anything was lost, was silently wrong, was left behind, or ended in a traceback.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def attacks(folder: Path, only: list[str], kills: int, flips: int, seed: str) -> Iterator[Any]:
    """Yield the `Outcome` of all attacks, or of those whose names are in ``only``."""
    from fastcifar.data.formats import writable_formats
    from tools.attacks import archives, damage, resources
    from tools.attacks import kills as killing
    from tools.attacks.outcome import run

    dataset, runs = folder / "dataset", folder / "runs"
    made = run("convert", "digits", dataset, "--formats", ",".join(writable_formats()))
    made = (
        run("train", *killing.TRAINED, "--compile", "none", "--data", dataset, "--out", runs) if not made.code else made
    )
    if made.code:
        raise SystemExit(f"the campaign cannot begin: {made.err[-2000:]}")
    run("report", "--runs", runs, "--data", dataset, "--out", folder / "report")  # adds predictions to the runs
    for target in killing.targets(dataset, runs):
        if not only or f"kill {target.name}" in only or "kills" in only:
            place = folder / f"kill-{target.name}"
            place.mkdir()
            yield from killing.attack(target, place, kills, seed)
    places = {name: folder / name for name in ("flips", "values", "archives", "resources")}
    for name, place in places.items():
        place.mkdir()
        if only and name not in only:
            continue
        if name == "flips":
            yield from damage.datasets(dataset, runs, place, flips, seed)
        elif name == "values":
            yield from damage.runs_of(dataset, runs, place, flips, seed)
        elif name == "archives":
            yield from archives.attack(place, 4 * flips, seed)
        else:
            yield from resources.attack(dataset, runs, place)


def main() -> None:
    from tools.attacks.outcome import GOOD, lines_of, table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="file of JSON lines to write, a row for each kind of attack")
    parser.add_argument(
        "--only", nargs="*", default=[], help="kills, kill train, ..., flips, values, archives, resources"
    )
    parser.add_argument("--kills", type=int, default=20, help="kills of each command")
    parser.add_argument("--flips", type=int, default=40, help="damages of each file")
    parser.add_argument("--seed", default="0", help="of all random choices")
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        for outcome in attacks(Path(folder), options.only, options.kills, options.flips, options.seed):
            outcomes.append(outcome)
            if outcome.result not in GOOD:
                print(f"{outcome.result}: {outcome.kind}: {outcome.detail}", file=sys.stderr, flush=True)
            elif not len(outcomes) % 20:
                print(f"{len(outcomes)} attacks, the last one {outcome.kind}", file=sys.stderr, flush=True)
    found = table(outcomes)
    for row in found:
        print(row)
    for line in lines_of(outcomes):
        print(line)
    if options.rows:
        from fastcifar.system.measure import environment
        from fastcifar.throughput import rows

        rows.write([row | {"environment": environment()} for row in found], options.rows)
    sys.exit(0 if all(outcome.result in GOOD for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
