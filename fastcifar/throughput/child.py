"""The program of a contestant's process: ``python -m fastcifar.throughput.child``.

It reads orders from standard input and writes answers to standard output, both as JSON lines. The first order is the
contestant, and each further order is a turn. The process ends at the end of its input.
"""

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from fastcifar.throughput.contestant import Contestant


def main() -> None:
    """Answer every order with a line: the result, or ``{"error": reason}``, after which the process ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that a library's prints do not mix with the answers

    def answer(content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        contestant = Contestant(**json.loads(sys.stdin.readline()))
        set_affinity(contestant.threads)
        go_first()
        from fastcifar.throughput.turn import Racer  # late, so that the threads of numpy and torch are limited, too

        with Racer(contestant) as racer:
            answer(racer.opening)
            for order in sys.stdin:
                answer(racer.turn(**json.loads(order)))
    except Exception as error:  # any error is this contestant's result
        traceback.print_exc()
        answer({"error": reason(error)})
        sys.exit(1)


def set_affinity(threads: int) -> None:
    """Limit this process and its children to ``threads`` CPU cores; do nothing on a system without CPU affinity."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def go_first() -> None:
    """Make Linux kill this process and its children before all others when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def reason(error: Exception) -> str:
    """Return a fastcifar error's message, or the type and one line of another error, as a cell has no room for more."""
    from fastcifar.errors import FastcifarError
    from fastcifar.system import foreign

    return str(error) if isinstance(error, FastcifarError) else foreign.said(error)


if __name__ == "__main__":
    main()
