"""What Triton's compiler makes of the GPU kernels for sm_90 (H100, H200): no GPU is needed, nothing runs.

    python bench/compiled.py --recipes erasing,imagenet256

The kernels are launched as in training, by `gpu.render`, on tensors that have a shape and no memory. Triton is told
that the device is an sm_90, and each launch is turned into what it calls a warm-up: specialised, compiled, not run.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from rich.console import Console
from rich.table import Table

from bench.lib import rows, sass
from bench.tables import compiled
from fastcifar.augment import RECIPES, Augment
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.progress import track
from fastcifar.show.text import parts
from fastcifar.system.measure import environment

if TYPE_CHECKING:
    from fastcifar.kernels.gpu import Launch  # needs Triton

CAPABILITY, WARP = 90, 32  # H100 and H200; threads
DATASET = 50_000  # images: only their number's type matters to the compiler
DTYPES = (torch.float32, torch.bfloat16)
CANDIDATES_FOR = "erasing"  # the recipe with all operations


@contextmanager
def compiled_launches() -> Iterator[list[Any]]:
    """Within it, launches of Triton kernels compile for sm_90 and do not run; gives the list they are added to.

    Triton's driver stays replaced afterwards: for processes that launch nothing else.
    """
    from triton import runtime
    from triton.backends.compiler import GPUTarget

    caught = []
    launch = runtime.JITFunction.run

    def compile_only(kernel: Any, *args: Any, warmup: bool, **kwargs: Any) -> Any:
        caught.append(launch(kernel, *args, warmup=True, **kwargs))
        return caught[-1]

    sm_90 = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", CAPABILITY, WARP),
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
    )
    runtime.driver.set_active(sm_90)
    with mock.patch.object(runtime.JITFunction, "run", compile_only):
        yield caught


def launched(spec: Augment, dtype: torch.dtype, batch: int, launch: "Launch | None" = None) -> list[Any]:
    """The compiled kernels of one batch, in the order of their launches. launch: as `gpu.render` takes it."""
    from fastcifar.kernels import gpu

    nowhere = torch.device("meta")  # an address of 0: as a multiple of 16 as those of CUDA's allocator
    images = torch.empty((DATASET, 32, 32, 3), dtype=torch.uint8, device=nowhere)
    labels = torch.empty(DATASET, dtype=torch.int64, device=nowhere)
    shape = (batch, 3, spec.out_size, spec.out_size)
    out = torch.empty(shape, dtype=dtype, device=nowhere, memory_format=torch.channels_last)
    out_labels, out_ids = (torch.empty(batch, dtype=torch.int64, device=nowhere) for _ in range(2))
    with compiled_launches() as kernels:
        gpu.render(images, labels, labels, gpu.clock_of(0, 0, nowhere), spec, out, out_labels, out_ids, launch=launch)
    return kernels


def row_of(kernel: Any, cuobjdump: str) -> dict[str, Any]:
    """What is known of a compiled kernel. Bytes of shared memory are a block's, those of stack and local a thread's."""
    text = sass.listing(kernel.asm["cubin"], cuobjdump)
    asked = sass.resources(text)
    dynamic, warps = kernel.metadata.shared, kernel.metadata.num_warps
    block_bytes = max(asked["static_shared_bytes"], sass.RESERVED_BYTES) + dynamic
    resident_warps, limit = sass.resident(warps, asked["registers"], block_bytes)
    return {
        "kernel": kernel.metadata.name,
        "warps": warps,
        "stages": kernel.metadata.num_stages,
        "fp_fusion": kernel.metadata.enable_fp_fusion,
        **asked,
        "dynamic_shared_bytes": dynamic,
        "resident_warps": resident_warps,
        "resident_limit": limit,
        **sass.counts(text),
    }


def cuobjdump_of_triton() -> str:
    """Where cuobjdump is. Raises UsageError where Triton is missing or interprets its kernels, or has no cuobjdump."""
    try:
        from fastcifar.kernels import gpu
        from triton import knobs
    except ImportError as error:
        raise UsageError(f"Triton is not usable here: {error}; pip install triton (Linux only)") from error
    if gpu.INTERPRETED:
        raise UsageError("TRITON_INTERPRET is set, so that nothing would be compiled; unset it")
    try:
        return str(knobs.nvidia.cuobjdump.path)
    except RuntimeError as error:
        raise UsageError(f"{error}: it comes with Triton's wheel; or set TRITON_CUOBJDUMP_PATH") from error


def collected(recipes: list[str], batch: int) -> list[dict[str, Any]]:
    """A row for each kernel: as the recipes are launched, then CANDIDATES_FOR in every other way."""
    cuobjdump = cuobjdump_of_triton()
    for recipe in recipes:
        if recipe not in RECIPES:
            raise UsageError(f"recipe {recipe!r} does not exist; there are {', '.join(RECIPES)}")
    if batch < 1:
        raise UsageError(f"--batch {batch}: needs an image at least")
    from fastcifar.kernels.gpu import CANDIDATES, CHOSEN

    around = environment()
    found = []
    asked = [(recipe, dtype, CHOSEN) for recipe in recipes for dtype in DTYPES]
    asked += [
        (CANDIDATES_FOR, dtype, launch)
        for dtype in DTYPES
        for launch in CANDIDATES
        if CANDIDATES_FOR in recipes and launch != CHOSEN
    ]
    for recipe, dtype, launch in track(asked, "compiling"):
        about = {
            "recipe": recipe, "dtype": str(dtype).removeprefix("torch."), "batch_size": batch,
            "arch": f"sm_{CAPABILITY}", "launch": launch._asdict(), "chosen": launch == CHOSEN,
        }  # fmt: skip
        kernels = launched(RECIPES[recipe], dtype, batch, launch)
        found += [{**about, **row_of(kernel, cuobjdump), "environment": around} for kernel in kernels]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "compiled-sm90.jsonl")
    asked = parser.parse_args()
    try:
        found = collected(parts(asked.recipes), asked.batch)
    except FastcifarError as error:
        print(f"compiled.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    rows.write(found, asked.out)
    for header, lines in (
        (compiled.HEADER, compiled.lines([row for row in found if row["chosen"]])),
        (compiled.CANDIDATES, compiled.candidates(found)),
    ):
        table = Table(*header)
        for line in lines:
            table.add_row(*line)
        Console(width=200).print(table)
    print(f"rows in {asked.out}")


if __name__ == "__main__":
    main()
