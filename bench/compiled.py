"""Compile the GPU kernels with Triton for sm_90 (H100, H200) and count their resources. No GPU is needed.

    python bench/compiled.py --recipes erasing,imagenet256

`gpu.render` launches the kernels as in training, on tensors that have a shape and no memory. A substitute driver
reports an sm_90 device to Triton, and each launch becomes a warm-up in Triton's sense: specialise and compile, but do
not run.
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
from fastcifar.augment import Augment
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.recipes import RECIPES
from fastcifar.show.progress import track
from fastcifar.show.text import parts
from fastcifar.system.measure import environment

if TYPE_CHECKING:
    from fastcifar.kernels.gpu import Launch  # needs Triton

CAPABILITY, WARP = 90, 32  # compute capability 9.0 (H100 and H200); threads of a warp
DATASET = 50_000  # images: the compiler depends on the type of this number only
DTYPES = (torch.float32, torch.bfloat16)
CANDIDATES_FOR = "erasing"  # the recipe with all operations


@contextmanager
def compiled_launches() -> Iterator[list[Any]]:
    """Compile the launches of Triton kernels within this context for sm_90, but run none. Yields the compiled kernels.

    Triton's driver stays replaced afterwards, so the process must launch no other kernels.
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
    """Return the compiled kernels of one batch, in the order of their launches. launch: as in `gpu.render`."""
    from fastcifar.kernels import gpu

    nowhere = torch.device("meta")  # its address is 0: a multiple of 16, like the addresses of CUDA's allocator
    images = torch.empty((DATASET, 32, 32, 3), dtype=torch.uint8, device=nowhere)
    labels = torch.empty(DATASET, dtype=torch.int64, device=nowhere)
    shape = (batch, 3, spec.out_size, spec.out_size)
    out = torch.empty(shape, dtype=dtype, device=nowhere, memory_format=torch.channels_last)
    out_labels, out_ids = (torch.empty(batch, dtype=torch.int64, device=nowhere) for _ in range(2))
    with compiled_launches() as kernels:
        gpu.render(images, labels, labels, gpu.clock_of(0, 0, nowhere), spec, out, out_labels, out_ids, launch=launch)
    return kernels


def kernel_row(kernel: Any, cuobjdump: str) -> dict[str, Any]:
    """Return the row of a compiled kernel. Bytes of shared memory are a block's; of stack and local memory, a
    thread's.
    """
    text = sass.listing(kernel.asm["cubin"], cuobjdump)
    resources = sass.resources(text)
    dynamic, warps = kernel.metadata.shared, kernel.metadata.num_warps
    block_bytes = max(resources["static_shared_bytes"], sass.RESERVED_BYTES) + dynamic
    resident_warps, limit = sass.resident(warps, resources["registers"], block_bytes)
    return {
        "kernel": kernel.metadata.name,
        "warps": warps,
        "stages": kernel.metadata.num_stages,
        "fp_fusion": kernel.metadata.enable_fp_fusion,
        **resources,
        "dynamic_shared_bytes": dynamic,
        "resident_warps": resident_warps,
        "resident_limit": limit,
        **sass.counts(text),
    }


def cuobjdump_of_triton() -> str:
    """Return the path of cuobjdump. Raises UsageError where it or Triton is missing, or kernels are interpreted."""
    try:
        from fastcifar.kernels import gpu
        from triton import knobs
    except ImportError as error:
        raise UsageError(f"Triton is not usable here: {error}; pip install triton (Linux only)") from error
    if gpu.INTERPRETED:
        raise UsageError("TRITON_INTERPRET is set, so no kernel would be compiled; unset it")
    try:
        return str(knobs.nvidia.cuobjdump.path)
    except RuntimeError as error:
        raise UsageError(f"{error}: reinstall Triton's wheel, which has it, or set TRITON_CUOBJDUMP_PATH") from error


def collected(recipes: list[str], batch: int) -> list[dict[str, Any]]:
    """Return a row for each kernel: the recipes with the chosen launch, then CANDIDATES_FOR with every other launch.

    batch: images of a batch, at least 1. Raises UsageError for an unknown recipe or a smaller batch.
    """
    cuobjdump = cuobjdump_of_triton()
    for recipe in recipes:
        if recipe not in RECIPES:
            raise UsageError(f"recipe {recipe!r} does not exist; there are {', '.join(RECIPES)}")
    if batch < 1:
        raise UsageError(f"--batch {batch} is less than 1; choose a positive number of images")
    from fastcifar.kernels.gpu import CANDIDATES, CHOSEN

    around = environment()
    collection = []
    launches = [(recipe, dtype, CHOSEN) for recipe in recipes for dtype in DTYPES]
    launches += [
        (CANDIDATES_FOR, dtype, launch)
        for dtype in DTYPES
        for launch in CANDIDATES
        if CANDIDATES_FOR in recipes and launch != CHOSEN
    ]
    for recipe, dtype, launch in track(launches, "compiling"):
        about = {
            "recipe": recipe, "dtype": str(dtype).removeprefix("torch."), "batch_size": batch,
            "arch": f"sm_{CAPABILITY}", "launch": launch._asdict(), "chosen": launch == CHOSEN,
        }  # fmt: skip
        kernels = launched(RECIPES[recipe], dtype, batch, launch)
        collection += [{**about, **kernel_row(kernel, cuobjdump), "environment": around} for kernel in kernels]
    return collection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "compiled-sm90.jsonl")
    options = parser.parse_args()
    try:
        kernels = collected(parts(options.recipes), options.batch)
    except FastcifarError as error:
        print(f"compiled.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    rows.write(kernels, options.out)
    for header, lines in (
        (compiled.HEADER, compiled.lines([row for row in kernels if row["chosen"]])),
        (compiled.CANDIDATES, compiled.candidates(kernels)),
    ):
        table = Table(*header)
        for line in lines:
            table.add_row(*line)
        Console(width=200).print(table)
    print(f"rows in {options.out}")


if __name__ == "__main__":
    main()
