"""The reason that a contestant's process gives for an error: one line, as it stands in the cell of a table."""

import pytest

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.throughput.child import reason

IN_A_WORKER = (
    "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    '  File "loop.py", line 3, in work\n    data = fetch()\nRuntimeError: unable to allocate shared memory(shm)\n'
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(IN_A_WORKER), "RuntimeError: unable to allocate shared memory(shm) (in a worker process)"),
        (ValueError("first line\nsecond line"), "ValueError: first line"),
        (ValueError(), "ValueError"),
        (UsageError("device cuda does not exist; choose cpu"), "device cuda does not exist; choose cpu"),
        (FastcifarError("disk full"), "disk full"),
    ],
)
def test_a_reason_has_one_line(error, said):
    assert reason(error) == said
