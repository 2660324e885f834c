"""The resources of a compiled kernel and its instructions, counted in cuobjdump's listing of its machine code (SASS).

Counts are of instructions in the code, not of how often they run.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.system.scratch import Scratch

# address, perhaps a predicate such as @!P0, then opcode and modifiers: /*01d0*/  @!P0 STG.E.64 desc[UR28][R6.64], R16 ;
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[0-9T]\s+)?([A-Z][\w.]*)", re.MULTILINE)
RESOURCE = re.compile(r"\b(REG|STACK|SHARED|LOCAL):(\d+)")
WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}  # bits a thread moves; 32 by default
DOUBLE = {"DADD", "DMUL", "DFMA", "DSETP", "DMNMX"}

# Limits of a multiprocessor of compute capability 9.0: CUDA C++ Programming Guide, technical specifications per compute
# capability. Units in which registers and shared memory are allocated: Nsight Compute's occupancy calculator.
WARPS, BLOCKS, REGISTERS, SHARED_BYTES = 64, 32, 65_536, 228 * 1024
RESERVED_BYTES = 1024  # bytes of shared memory that CUDA reserves for each block
PARTITIONS = 4  # parts of a multiprocessor; a warp and its registers belong to one part
REGISTER_UNIT, SHARED_UNIT = 256, 128  # allocation units: registers of a warp, bytes of shared memory of a block


def listing(cubin: bytes, cuobjdump: str) -> str:
    """Return the resources and the SASS of a cubin, as cuobjdump prints them.

    cuobjdump: its path. Raises UsageError where it cannot be run, and FastcifarError where it fails.
    """
    with Scratch() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        try:
            done = subprocess.run(
                [cuobjdump, "-res-usage", "-sass", str(path)], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UsageError(f"cannot run {cuobjdump}: {error.strerror}; it comes with Triton's wheel") from error
    if done.returncode:
        raise FastcifarError(f"{cuobjdump} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def resources(text: str) -> dict[str, int]:
    """Return registers a thread, bytes of stack and local memory (spills) a thread, and bytes of static shared memory.

    The shared memory includes RESERVED_BYTES where the kernel uses any. Raises FastcifarError for another text.
    """
    found = {name: int(value) for name, value in RESOURCE.findall(text)}
    if len(found) < 4:
        raise FastcifarError(f"cuobjdump's listing holds {sorted(found)}, not REG, STACK, SHARED and LOCAL")
    return {
        "registers": found["REG"],
        "stack_bytes": found["STACK"],
        "local_bytes": found["LOCAL"],
        "static_shared_bytes": found["SHARED"],
    }


def counts(text: str) -> dict[str, Any]:
    """Return the number of instructions of each kind in a listing; global loads and stores by width, {bits: count}."""
    opcodes = Counter(opcode for opcode in INSTRUCTION.findall(text) if opcode != "NOP")  # NOPs only pad the code
    kinds: Counter[str] = Counter()
    for opcode, count in opcodes.items():
        kinds[opcode.split(".")[0]] += count

    def by_width(kind: str) -> dict[str, int]:
        widths: Counter[int] = Counter()
        for opcode, count in opcodes.items():
            name, *modifiers = opcode.split(".")
            if name == kind:
                widths[next((WIDTHS[m] for m in modifiers if m in WIDTHS), 32)] += count
        return {str(bits): widths[bits] for bits in sorted(widths)}

    return {
        "instructions": opcodes.total(),
        "global_loads": by_width("LDG"),
        "global_stores": by_width("STG"),
        "shared_loads": kinds["LDS"] + kinds["LDSM"],
        "shared_stores": kinds["STS"] + kinds["STSM"],
        "local_loads": kinds["LDL"],
        "local_stores": kinds["STL"],
        "shuffles": kinds["SHFL"],
        "barriers": kinds["BAR"],
        "double": sum(n for op, n in opcodes.items() if op.split(".")[0] in DOUBLE or "F64" in op or "64H" in op),
        "special": kinds["MUFU"],
        "calls": kinds["CALL"],
    }


def resident(warps: int, registers: int, shared_bytes: int) -> tuple[int, str]:
    """Return the warps that a multiprocessor of sm_90 holds at once, at most WARPS, and the resource that limits them.

    warps: of a block; registers: of a thread; shared_bytes: of a block, RESERVED_BYTES included.
    """
    registers_a_warp = _rounded_up(registers * 32, REGISTER_UNIT)
    blocks = {
        "warps": WARPS // warps,
        "blocks": BLOCKS,
        "registers": REGISTERS // PARTITIONS // registers_a_warp * PARTITIONS // warps,
        "shared memory": SHARED_BYTES // _rounded_up(shared_bytes, SHARED_UNIT),
    }
    limit = min(blocks, key=lambda name: blocks[name])
    return blocks[limit] * warps, limit


def _rounded_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
