"""What only a CUDA device can show, most valuable first, in calls of five minutes that bring their evidence back.

    python tools/gpu_check.py --out build/gpu-check
    python tools/gpu_check.py --resume build/gpu-check      # goes on with what is missing or has changed

Time on a GPU is scarce, and the first call shows faults: so two calls of five minutes, not one of ten. Runs in the
Python that runs it, from a checkout, and installs nothing. Every step is a process; one that fails or takes too long
costs the others nothing. The folder is flat and small: rows.jsonl, each row written when it is measured; tests.jsonl,
each test when it has ended; profile.txt; tests.log and bench.log; summary.json. Exit status: 0 all steps that were
asked for passed, 1 some did not, 2 nothing ran.
"""

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import budget, evidence, processes  # noqa: E402
from tools.budget import Check, Step  # noqa: E402

NEEDED = ("pytest", "torchvision", "triton", "numba", "rich", "typer", "safetensors", "matplotlib")
WORKERS = 8  # processes that run tests: each holds a CUDA context and compiles kernels
LINES, WIDTH = 90, 80  # of the table at the end, which is what travels first

DICE = ("fastcifar/augment.py", "fastcifar/rng/*.py")
KERNELS = ("kernels/**/*.py", *DICE, "bench/gpu/steps.py", "bench/gpu/notes.py")
BITS = (*KERNELS, "bench/gpu/bits.py", "bench/lib/device.py")
TRAINING = (
    *BITS, "fastcifar/*.py", *(f"fastcifar/{name}/*.py" for name in ("system", "data", "models", "runs", "training")),
    "pipelines/resident/*.py", "bench/gpu/loops.py", "bench/gpu/device_profile.py",
)  # fmt: skip


def steps(device: str = "cuda") -> list[Step]:
    """What is run, in this order: the first three fit one call, the other four another. On the CPU a rehearsal, of
    next to nothing.
    """
    tiny = () if device == "cuda" else ("--tiny",)

    def measures(name: str, does: str, limit: float, least: float, depends: tuple[str, ...]) -> Step:
        files = ("--rows", f"{{out}}/{budget.ROWS}", "--profile", "{out}/profile.txt")
        return Step(name, does, ("bench/gpu/steps.py", name, "--device", device, *files, *tiny), limit, least, depends)

    return [
        measures("machine", "bandwidth; bits of our kernels and of dropout; one captured step", 85, 15, TRAINING),
        measures("kernels", "our kernels alone, erasing and 384: the chosen launch, then each candidate", 95, 20, BITS),
        measures("cnn", "the CNN as a graph and step by step: epochs, steps, top 25 kernels", 90, 20, TRAINING),
        measures("packs", "24 runs at once of CNN, MLP and ViT, each way; a small grid of experiment 2", 95, 25,
                 (*TRAINING, "fastcifar/packs/*.py", "fastcifar/grid/*.py", "bench/gpu/packs.py")),
        Step("tests", "the tests that are marked gpu, in parallel", tests(device), 65, 20,
             ("fastcifar/**/*.py", "kernels/**/*.py", "pipelines/**/*.py", "bench/**/*.py", "tests/**/*.py",
              "tools/kept_tests.py"), "tests.log"),
        measures("pipelines", "pipelines against torchvision; kernels against compiled torch and kornia", 80, 20,
                 (*KERNELS, "fastcifar/throughput/*.py", "pipelines/**/*.py", "bench/gpu/contests.py",
                  "bench/rivals/*.py", "bench/kernels.py", "bench/lib/device.py")),
        measures("pretrained", "EfficientNetV2-S at 384: stall, images/s, micro-batch", 40, 15, TRAINING),
    ]  # fmt: skip


def tests(device: str) -> tuple[str, ...]:
    """pytest's arguments: the marked tests in as many processes as make sense, each result kept as it comes."""
    chosen = ("-m", "gpu", "tests") if device == "cuda" else ("tests/rng",)
    parallel = ("-p", "xdist", "-n", str(min(WORKERS, os.cpu_count() or 1)), "--dist", "worksteal")
    return (
        *("-m", "pytest", "-v", "--continue-on-collection-errors"),
        *("-p", "kept_tests", "--keep", f"{{out}}/{budget.TESTS}"),
        *(parallel if importlib.util.find_spec("xdist") else ()),
        *chosen,
    )  # fmt: skip


def report(check: Check, out: Path) -> None:
    """What a reader sees first: the table of steps, what was measured, and the files."""
    rows, kept = evidence.read_rows(out / budget.ROWS), evidence.read_rows(out / budget.TESTS)
    said = [f"{row.get('step', '')}: {row.get('says', '')}" for row in rows]
    bad = [test for test in kept if test["outcome"] not in ("passed", "skipped")]
    said += [f"tests: {test['nodeid']} {test['outcome']}: {test['reason']}" for test in bad]
    for line in said[:LINES]:
        print(line if len(line) <= 2 * WIDTH else f"{line[: 2 * WIDTH - 4]} ...")
    if len(said) > LINES:
        print(f"... and {len(said) - LINES} more")
    if kept:
        counts = Counter(test["outcome"] for test in kept)
        print(f"tests: {', '.join(f'{count} {outcome}' for outcome, count in sorted(counts.items()))}")
    print(f"\n{'step':11} {'outcome':10} {'seconds':>7} {'limit':>6} {'rows':>5}  why")
    for result in check.results.values():
        numbers = f"{result.seconds:7.1f} {result.limit:6.0f} {result.rows:5}"
        print(f"{result.name:11} {result.outcome:10} {numbers}  {result.why}"[:WIDTH])
    sizes = [f"{path.name} {path.stat().st_size:,}" for path in sorted(out.iterdir()) if path.is_file()]
    print(f"{out}: {', '.join(sizes)} bytes", flush=True)


def why_not(device: str) -> str:
    """What this Python lacks for the check; empty where it lacks nothing."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed in this Python"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"this Python lacks {', '.join(missing)}" if missing else ""


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.monotonic()
    planned = steps()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder; default: DIR of --resume, else build/gpu-check")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the steps that are missing there, did "
                        "not pass or have changed since; with --out, in a copy of it")  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=budget.FULL, help=f"of this call; {processes.GRACE:g} more at most"
    )
    parser.add_argument("--only", action="append", default=[], choices=[step.name for step in planned], metavar="STEP",
                        help="run this step, though it has passed, and no others; may be repeated")  # fmt: skip
    parser.add_argument("--commit", help="which commit this is, where .git is not here: its digits, and + if changed")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, next to nothing of everything")
    parser.add_argument("--list", action="store_true", help="show the steps and their limits")
    asked = parser.parse_args(arguments)
    if asked.list:
        for step in planned:
            print(f"{step.name:11} {step.limit:4g} s  {step.does}")
        return
    device = "cpu" if asked.rehearse else "cuda"
    lacking = why_not(device)
    if lacking:
        print(f"the GPU check cannot run: {lacking} ({sys.executable})", file=sys.stderr)
        sys.exit(2)
    if asked.resume is not None and not (asked.resume / budget.SUMMARY).is_file():
        parser.error(f"there is no {budget.SUMMARY} in {asked.resume}; leave --resume out")
    from fastcifar.errors import UsageError
    from fastcifar.system import machine
    from fastcifar.system.measure import environment

    told = asked.commit or os.environ.get(machine.TOLD, "")
    try:
        machine.told_commit(told)
    except UsageError as error:
        parser.error(str(error))
    os.environ[machine.TOLD] = told  # for the steps, too
    around = environment()
    about = {
        "commit": f"{around['commit']}{'+' * bool(around['dirty'])}" if around["commit"] else None,
        "told": told or None,  # the same, unless this copy has a .git of its own
        "environment": around,
    }
    out = (asked.out or asked.resume or ROOT / "build" / "gpu-check").absolute()
    if asked.resume is not None:
        budget.copied(asked.resume, out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the step, too
    check = Check(steps(device), out, budget.Budget(asked.seconds, began), about, asked.resume is not None)
    passed = check.run(asked.only)
    report(check, out)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
