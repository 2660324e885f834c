"""The steps of `make gpu-check` that measure. Each runs by itself: python bench/gpu/steps.py cnn --rows rows.jsonl

Every row is written when it is measured. --tiny --device cpu runs a step's code without a GPU, in Triton's interpreter,
on very little data. This shows that the code runs, and measures nothing.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if TYPE_CHECKING:
    from bench.gpu.notes import Notes


def machine(notes: "Notes") -> None:
    """Measure the device's bandwidth, compare our kernels' bits with the reference, and capture a step as a graph."""
    from bench.gpu import bits, loops

    bits.memory(notes)
    bits.pixel_bits(notes)
    bits.dropped(notes)
    loops.captured(notes)


def kernels(notes: "Notes") -> None:
    """Time our kernels alone."""
    from bench.gpu import bits

    bits.kernels(notes)


def cnn(notes: "Notes") -> None:
    """Time an epoch of the CNN, with a captured graph and with launched steps."""
    from bench.gpu import loops

    loops.cnn(notes)


def packs(notes: "Notes") -> None:
    """Time many runs at once."""
    from bench.gpu import packs

    packs.packs(notes)


def parts(notes: "Notes") -> None:
    """Time the parts of a step of many runs at once."""
    from bench.gpu import parts

    parts.parts(notes)


def grid(notes: "Notes") -> None:
    """Time the report's experiments 1 to 3, and a small grid by its command."""
    from bench.gpu import grid

    grid.grid(notes)


def pipelines(notes: "Notes") -> None:
    """Time our pipelines and kernels against others."""
    from bench.gpu import contests

    contests.pipelines(notes)


def pretrained(notes: "Notes") -> None:
    """Time a large network on large images."""
    from bench.gpu import loops

    loops.pretrained(notes)


STEPS: dict[str, Callable[["Notes"], None]] = {
    step.__name__: step for step in (machine, kernels, cnn, packs, parts, grid, pipelines, pretrained)
}


def main() -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--rows", type=Path, help="file of JSON lines to which rows are appended")
    parser.add_argument("--profile", type=Path, help="file to which profiles are appended")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="after which the step will be ended; grid leaves out the rest"
    )
    parser.add_argument("--tiny", action="store_true", help="use very little data, which measures nothing")
    options = parser.parse_args()
    if options.device == "cpu":
        if not options.tiny:
            parser.error("--device cpu measures nothing; add --tiny")
        os.environ["TRITON_INTERPRET"] = "1"  # before any kernel is defined
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that open contexts clean up
    seconds: dict[str, float] = {}

    def imported(name: str) -> Any:
        started = time.perf_counter()
        module = __import__(name)
        seconds[name] = time.perf_counter() - started
        return module

    torch = imported("torch")
    if options.device == "cpu":
        torch.set_num_threads(1)  # one thread is the fastest for very little data
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    for name in ("triton", "numba", "torchvision"):
        imported(name)
    from bench.gpu.notes import Notes
    from fastcifar.system.devices import device_of

    started = time.perf_counter()
    torch.zeros(1, device=options.device).cpu()
    seconds["device"] = time.perf_counter() - started
    notes = Notes(options.step, device_of(options.device), options.rows, options.profile, options.tiny,
                  until=began + options.seconds)  # fmt: skip
    taken = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    notes.row("start", f"seconds to start: {taken}", seconds=seconds)
    STEPS[options.step](notes)
    if notes.wrong:
        sys.exit("\n".join(["wrong or failed:", *notes.wrong]))


if __name__ == "__main__":
    main()
