"""The steps of `make gpu-check` that measure, each by itself: python bench/gpu/steps.py cnn --rows rows.jsonl

Every row is written when it is measured. --tiny --device cpu runs the code of a step without a GPU, in Triton's
interpreter, on next to nothing: that shows that it runs, and measures nothing.
"""

import argparse
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
    """What all else rests on: the ceiling, our kernels' bits, a step as a graph."""
    from bench.gpu import bits, loops

    bits.memory(notes)
    bits.pixel_bits(notes)
    bits.dropped(notes)
    loops.captured(notes)


def kernels(notes: "Notes") -> None:
    """Our kernels alone."""
    from bench.gpu import bits

    bits.kernels(notes)


def cnn(notes: "Notes") -> None:
    """An epoch of the CNN as a graph and step by step."""
    from bench.gpu import loops

    loops.cnn(notes)


def packs(notes: "Notes") -> None:
    """Many runs at once."""
    from bench.gpu import packs

    packs.packs(notes)


def pipelines(notes: "Notes") -> None:
    """Ours against others."""
    from bench.gpu import contests

    contests.pipelines(notes)


def pretrained(notes: "Notes") -> None:
    """A large network on large images."""
    from bench.gpu import loops

    loops.pretrained(notes)


STEPS: dict[str, Callable[["Notes"], None]] = {
    step.__name__: step for step in (machine, kernels, cnn, packs, pipelines, pretrained)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--rows", type=Path, help="file of JSON lines that rows are added to")
    parser.add_argument("--profile", type=Path, help="file that profiles are added to")
    parser.add_argument("--tiny", action="store_true", help="next to nothing of everything")
    asked = parser.parse_args()
    if asked.device == "cpu":
        if not asked.tiny:
            parser.error("--device cpu goes with --tiny: nothing is measured there")
        os.environ["TRITON_INTERPRET"] = "1"  # before any kernel is defined
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is under way is noted and given back
    seconds: dict[str, float] = {}

    def imported(name: str) -> Any:
        started = time.perf_counter()
        module = __import__(name)
        seconds[name] = time.perf_counter() - started
        return module

    torch = imported("torch")
    if asked.device == "cpu":
        torch.set_num_threads(1)  # for so little one is the fastest: it does not wait for others
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    for name in ("triton", "numba", "torchvision"):
        imported(name)
    from bench.gpu.notes import Notes
    from fastcifar.system.devices import device_of

    started = time.perf_counter()
    torch.zeros(1, device=asked.device).cpu()
    seconds["device"] = time.perf_counter() - started
    notes = Notes(asked.step, device_of(asked.device), asked.rows, asked.profile, asked.tiny)
    taken = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    notes.row("start", f"seconds to start: {taken}", seconds=seconds)
    STEPS[asked.step](notes)
    if notes.wrong:
        sys.exit("\n".join(["wrong or failed:", *notes.wrong]))


if __name__ == "__main__":
    main()
