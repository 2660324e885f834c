"""The threads of OpenMP, the library that shares torch's loops out to the cores: as many as there are free cores.

All threads of a loop wait for the slowest one. Where another program keeps a core busy, the thread on that core gets
half of it, and each loop takes at least twice as long; waiting and waking make it worse. Measured on two cores
(bench/results/openmp-cpu.jsonl): beside busy neighbours, one thread trains at least 1.5 times as fast as two threads,
however they wait. On idle cores the default is the fastest. So our commands count the free cores when they begin,
before torch is loaded. A library must not set variables of the whole process, so ``import fastcifar`` does not.
"""

import os
import sys
from collections.abc import Callable

from fastcifar.system import load, machine

THREADS = "OMP_NUM_THREADS"
SECONDS = 0.2  # for which the load is measured


def free_cores(allowed: int, usable: int, busy: float | None) -> int:
    """Return the number of cores for threads, at least 1.

    allowed: the cores of this process's affinity. usable: those left under the quota of its control group. busy: those
    of the allowed cores that other programs use; None where it is unknown.
    """
    return max(1, min(usable, allowed - int((busy or 0.0) + 0.5)))


def choose(say: Callable[[str], None]) -> None:
    """Set the number of threads for this process and its children to the number of free cores, where some are busy.

    Nothing is set where the user has set the number, or torch is already loaded. say: a callback for the message to
    the user.
    """
    if "torch" in sys.modules or THREADS in os.environ:
        return
    allowed, usable, busy = len(machine.allowed_cores()), machine.usable_cores(), load.measure(SECONDS).busy_cores
    threads = free_cores(allowed, usable, busy)
    if threads < usable:
        os.environ[THREADS] = str(threads)
        say(
            f"other programs use {busy:.1f} of {allowed} cores, so torch takes {threads} "
            f"thread{'s' * (threads > 1)}; {THREADS} sets another number"
        )
