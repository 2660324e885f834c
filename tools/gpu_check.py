"""Run the checks that need a CUDA device, the most valuable first, in calls of five minutes that return their evidence.

    python tools/gpu_check.py --out build/gpu-check
    python tools/gpu_check.py --resume build/gpu-check      # run the steps that are missing or have changed

Time on a GPU is scarce, and the first call shows faults. Two calls of five minutes are therefore better than one of
ten. The check uses the Python that runs it, from a checkout, and installs nothing. Packages that this Python lacks may
be brought in build/carried, for example for Python 3.12:

    pip install --target build/carried --no-deps --only-binary :all: --python-version 3.12 msgspec

Every step is a process, so a step that fails or times out does not affect the others. The folder has these files:
rows.jsonl, each row written when it is measured; tests.jsonl, each test written when it has ended; profile.txt;
tests.log and bench.log; summary.json. Exit status: 0 if all selected steps passed, 1 if some did not, 2 if none ran.
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
CARRIED = ROOT / "build" / "carried"
sys.path.insert(0, str(ROOT))
if CARRIED.is_dir():
    sys.path.append(str(CARRIED))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(CARRIED)]))

from tools import budget, evidence, processes  # noqa: E402
from tools.budget import Check, Step  # noqa: E402

NEEDED = ("pytest", "torchvision", "triton", "numba", "rich", "typer", "msgspec", "safetensors", "matplotlib")
WORKERS = 8  # processes that run tests: each has a CUDA context and compiles kernels
LINES, WIDTH = 90, 80  # of the output at the end: a lent machine returns the last part of the output only

DICE = ("fastcifar/augment/*.py", "fastcifar/recipes.py", "fastcifar/rng/*.py")
KERNELS = ("kernels/**/*.py", *DICE, "fastcifar/system/*.py", "bench/gpu/steps.py", "bench/gpu/notes.py")
BITS = (*KERNELS, "fastcifar/models/dropout.py", "bench/gpu/bits.py", "bench/lib/device.py")
TRAINING = (
    *BITS, "fastcifar/*.py",
    *(f"fastcifar/{name}/*.py" for name in ("system", "show", "data", "models", "pipeline", "runs", "training")),
    "pipelines/resident/*.py", "bench/gpu/loops.py", "bench/gpu/device_profile.py",
)  # fmt: skip
PACKS = (*TRAINING, "fastcifar/packs/**/*.py")


def steps(device: str = "cuda") -> list[Step]:
    """Return the steps in order: three fit into one call, the next three into a second, the others into a third.

    device: "cpu" gives a rehearsal on very little data.
    """
    tiny = () if device == "cuda" else ("--tiny",)

    def measures(name: str, does: str, limit: float, least: float, depends: tuple[str, ...]) -> Step:
        files = ("--rows", f"{{out}}/{budget.ROWS}", "--profile", "{out}/profile.txt", "--seconds", "{limit}")
        return Step(name, does, ("bench/gpu/steps.py", name, "--device", device, *files, *tiny), limit, least, depends)

    return [
        measures("machine", "bandwidth; bits of our kernels and of dropout; one captured step", 85, 15, TRAINING),
        measures("kernels", "our kernels alone, erasing and 384: the chosen launch, then each candidate", 95, 20, BITS),
        measures("cnn", "the CNN as a graph and step by step: epochs, steps, top 25 kernels", 90, 20, TRAINING),
        measures("packs", "24 runs at once of CNN, MLP and ViT, each way", 80, 25, (*PACKS, "bench/gpu/packs.py")),
        measures("parts", "layers of 24 runs alone, each way, and whether their bits repeat", 50, 15,
                 (*PACKS, "bench/gpu/parts.py")),
        measures("grid", "packs of experiments 1 to 3, then extrapolated; a small grid by its command", 120, 50,
                 (*PACKS, *(f"fastcifar/{name}/*.py" for name in ("grid", "cli")), "bench/gpu/grid.py",
                  "bench/gpu/costs.py")),
        Step("tests", "the tests that are marked gpu, in parallel", tests(device), 85, 20,
             ("fastcifar/**/*.py", "kernels/**/*.py", "pipelines/**/*.py", "bench/**/*.py", "tests/**/*.py",
              "tools/kept_tests.py"), "tests.log"),
        measures("pipelines", "pipelines against torchvision; kernels against compiled torch and kornia", 80, 20,
                 (*TRAINING, "fastcifar/throughput/*.py", "pipelines/**/*.py", "bench/gpu/contests.py",
                  "bench/rivals/*.py", "bench/kernels.py", "bench/lib/device.py")),
        measures("pretrained", "EfficientNetV2-S at 384: stall, images/s, micro-batch", 40, 15, TRAINING),
    ]  # fmt: skip


def tests(device: str) -> tuple[str, ...]:
    """Return pytest's arguments: run the marked tests in parallel and save each result when it is known."""
    chosen = ("-m", "gpu", "tests") if device == "cuda" else ("tests/rng",)
    parallel = ("-p", "xdist", "-n", str(min(WORKERS, os.cpu_count() or 1)), "--dist", "worksteal")
    return (
        *("-m", "pytest", "-v", "--continue-on-collection-errors"),
        *("-p", "kept_tests", "--keep", f"{{out}}/{budget.TESTS}"),
        *(parallel if importlib.util.find_spec("xdist") else ()),
        *chosen,
    )  # fmt: skip


def report(check: Check, out: Path) -> None:
    """Print the measurements, the tests that failed, the table of steps, and the files."""
    rows, kept = evidence.read_rows(out / budget.ROWS), evidence.read_rows(out / budget.TESTS)
    lines = [f"{row.get('step', '')}: {row.get('says', '')}" for row in rows]
    bad = [test for test in kept if test["outcome"] not in ("passed", "skipped")]
    lines += [f"tests: {test['nodeid']} {test['outcome']}: {test['reason']}" for test in bad]
    for line in lines[:LINES]:
        print(line if len(line) <= 2 * WIDTH else f"{line[: 2 * WIDTH - 4]} ...")
    if len(lines) > LINES:
        print(f"... and {len(lines) - LINES} more")
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
    """Return the reason why this Python cannot run the check; an empty text where it can."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed in this Python"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"this Python lacks {', '.join(missing)}; --help shows how to bring them in {CARRIED}" if missing else ""


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.monotonic()
    planned = steps()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder; default: DIR of --resume, else build/gpu-check")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="run the steps that are missing in DIR, did "
                        "not pass or have changed since; with --out, in a copy of DIR")  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=budget.FULL, help=f"limit of this call; at most {processes.GRACE:g} more"
    )
    parser.add_argument("--only", action="append", default=[], choices=[step.name for step in planned], metavar="STEP",
                        help="run only this step, also if it has passed; may be repeated")  # fmt: skip
    parser.add_argument("--commit", help="the commit, for a copy without .git: its digits, and + if changed")
    parser.add_argument("--rehearse", action="store_true", help="run on the CPU, with very little data")
    parser.add_argument("--list", action="store_true", help="show the steps and their limits")
    options = parser.parse_args(arguments)
    if options.list:
        for step in planned:
            print(f"{step.name:11} {step.limit:4g} s  {step.does}")
        return
    device = "cpu" if options.rehearse else "cuda"
    lacking = why_not(device)
    if lacking:
        print(f"the GPU check cannot run: {lacking} ({sys.executable})", file=sys.stderr)
        sys.exit(2)
    if options.resume is not None and not (options.resume / budget.SUMMARY).is_file():
        parser.error(f"there is no {budget.SUMMARY} in {options.resume}; leave --resume out")
    from fastcifar.errors import UsageError
    from fastcifar.system import machine
    from fastcifar.system.measure import environment

    told = options.commit or os.environ.get(machine.TOLD, "")
    try:
        machine.told_commit(told)
    except UsageError as error:
        parser.error(str(error))
    os.environ[machine.TOLD] = told  # the steps read it, too
    around = environment()
    about = {
        "commit": f"{around['commit']}{'+' * bool(around['dirty'])}" if around["commit"] else None,
        "told": told or None,  # differs from "commit" where this copy has a .git of its own
        "environment": around,
    }
    out = (options.out or options.resume or ROOT / "build" / "gpu-check").absolute()
    if options.resume is not None:
        budget.copied(options.resume, out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step is ended, too
    check = Check(steps(device), out, budget.Budget(options.seconds, began), about, options.resume is not None)
    passed = check.run(options.only)
    report(check, out)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
