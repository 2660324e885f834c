"""What only a CUDA device can show: its tests and short benchmarks, one after another, into one folder.

    python tools/gpu_check.py --out build/gpu-check

Runs in the Python that runs it, from a checkout, and installs nothing. A step that fails or takes too long does not
keep the others from running. The folder has what the steps print, in tests.log and bench.log, the tests' results in
junit.xml, the rows of the benchmarks, and summary.json. Exit status: 0 all passed, 1 some step did not, 2 nothing ran.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
GRACE = 10  # seconds that a step which took too long has to end by itself
LOG_BYTES = 1 << 20  # kept of what a step prints: its first half and its last
FILES = ("tests.log", "junit.xml", "bench.log", "kernels-cuda.jsonl", "throughput-cuda.jsonl",
         "training-cuda.jsonl", "packs-cuda.jsonl", "summary.json")  # fmt: skip
"""in the folder, at most"""
NEEDED = ("pytest", "torchvision", "triton", "numba", "rich", "typer", "safetensors", "matplotlib")


@dataclass(frozen=True)
class Step:
    """A command, Python's arguments, and what holds for it."""

    name: str
    arguments: tuple[str, ...]
    limit: float
    """seconds until it is ended"""
    log: str = "bench.log"
    """file of the folder that its output is appended to"""


@dataclass(frozen=True)
class Result:
    """How a step ended."""

    name: str
    outcome: str
    """passed, failed or timed out"""
    status: int
    """the exit status, negative where a signal ended it"""
    seconds: float
    limit: float
    arguments: tuple[str, ...]


def steps(out: Path) -> list[Step]:
    """What is run, in this order; 9 minutes at the most."""
    quick = ("--device", "cuda", "--quick", "--out")
    racers = ("--devices", "cuda", "--pipelines", "resident,torchvision", "--recipes", "erasing,imagenet256")
    loops = ("bench/training.py", "--device", "cuda", "--repeats", "3", "--workers", "", "--out")
    return [
        Step("tests", ("-m", "pytest", "-v", "-m", "gpu", "--junitxml", f"{out / 'junit.xml'}"), 170, "tests.log"),
        Step("kernels", ("bench/kernels.py", *quick, f"{out / 'kernels-cuda.jsonl'}"), 150),
        Step("pipelines", ("bench/throughput.py", "--quick", *racers, "--out", f"{out / 'throughput-cuda.jsonl'}"), 90),
        Step("training", (*loops, f"{out / 'training-cuda.jsonl'}"), 65),
        Step("packs", (*loops, f"{out / 'packs-cuda.jsonl'}", "--packs", "--runs", "24"), 60),
    ]


def run(step: Step, out: Path) -> Result:
    """Run a step in the checkout and append what it printed to its log. A step that is ended takes with it what it
    started.
    """
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH"))))}
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, *step.arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=printed,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status, late = process.wait(step.limit), False
        except subprocess.TimeoutExpired:
            status, late = _end(process), True
        except BaseException:  # Ctrl-C: the step has a session of its own and does not hear of it
            _end(process)
            raise
        seconds = time.monotonic() - started
        outcome = "timed out" if late else "failed" if status else "passed"
        with (out / step.log).open("ab") as log:
            log.write(f"== {step.name}: python {' '.join(step.arguments)}\n".encode())
            _append(printed, log)
            log.write(f"== {step.name}: {outcome}, exit status {status}, {seconds:.0f} s\n\n".encode())
    return Result(step.name, outcome, status, round(seconds, 1), step.limit, step.arguments)


def _end(process: "subprocess.Popen[bytes]") -> int:
    """End a process and its session: asked first, then made to."""
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    return process.wait()


def _append(printed: IO[bytes], log: IO[bytes]) -> None:
    """Copy it, without its middle where it is long."""
    length = printed.seek(0, os.SEEK_END)
    printed.seek(0)
    if length > LOG_BYTES:
        log.write(printed.read(LOG_BYTES // 2))
        log.write(f"\n... {length - LOG_BYTES} bytes are left out ...\n".encode())
        printed.seek(length - LOG_BYTES // 2)
    shutil.copyfileobj(printed, log)


def check(planned: Sequence[Step], out: Path, around: Callable[[], dict[str, Any]] = dict) -> bool:
    """Run the steps and write summary.json after each; whether all passed. around: the machine's facts."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    environment = around()
    results: list[Result] = []
    for step in planned:
        print(f"{step.name}: up to {step.limit:g} s ...", flush=True)
        results.append(run(step, out))
        summary = {
            "passed": len(results) == len(planned) and all(result.outcome == "passed" for result in results),
            "steps": [asdict(result) for result in results],
            "environment": environment,
        }
        (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"\n{'step':12} {'outcome':10} {'seconds':>8} {'limit':>6}")
    for result in results:
        print(f"{result.name:12} {result.outcome:10} {result.seconds:8.1f} {result.limit:6g}")
    print(f"logs and rows in {out}")
    return all(result.outcome == "passed" for result in results)


def why_not() -> str:
    """What this Python lacks for the check; empty where it lacks nothing."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed in this Python"
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return f"this Python lacks {', '.join(missing)}" if missing else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check", help="folder of logs and rows")
    out = parser.parse_args().out.absolute()
    lacking = why_not()
    if lacking:
        print(f"the GPU check cannot run: {lacking} ({sys.executable})", file=sys.stderr)
        sys.exit(2)
    sys.path.insert(0, str(ROOT))
    from fastcifar.measure import environment

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the step, too
    sys.exit(0 if check(steps(out), out, environment) else 1)


if __name__ == "__main__":
    main()
