"""What a contestant's process runs: ``python -m fastcifar.throughput.child``. JSON lines, orders on standard input and
answers on standard output. The first order is the contestant; each further one is a turn. It ends with its input.
"""

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from fastcifar.throughput.contestant import Contestant


def main() -> None:
    """Answer every order with a line: the result, or ``{"error": reason}`` and the end."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not look like an answer

    def answer(content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        contestant = Contestant(**json.loads(sys.stdin.readline()))
        keep_to_cores(contestant.threads)
        go_first()
        from fastcifar.throughput.turn import Racer  # numpy and torch: their threads must be held as well

        with Racer(contestant) as racer:
            answer(racer.opening)
            for order in sys.stdin:
                answer(racer.turn(**json.loads(order)))
    except Exception as error:  # whatever it is, it is this contestant's result
        traceback.print_exc()
        answer({"error": reason(error)})
        sys.exit(1)


def keep_to_cores(threads: int) -> None:
    """Let this process and all that it starts run on ``threads`` cores and no more, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def go_first() -> None:
    """Where memory runs out, let it be this process and what it starts that the system ends, not somebody else's."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def reason(error: Exception) -> str:
    """An error in words: a fastcifar error's own, otherwise with its type."""
    from fastcifar.errors import FastcifarError

    return str(error) if isinstance(error, FastcifarError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
