"""The reason of an error on a cluster in one line."""

import pytest

from fastcifar.errors import FastcifarError, UsageError

pytest.importorskip("ray", reason="Ray is not installed")
from ray.exceptions import ActorDiedError, RayTaskError

from fastcifar.grid.connection import reason

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
CURE = "; read the log"


def of_a_worker(error):
    """Return the error that Ray raises for an error in an actor's method, and in its constructor."""
    trace = f"Traceback (most recent call last):\n  File x\n{type(error).__module__}.{type(error).__name__}: {error}"
    failed = RayTaskError("f", trace, error, proctitle="ray", pid=1, ip="1.2.3.4")
    return failed.as_instanceof_cause(), ActorDiedError(failed)


@pytest.mark.parametrize("error", [FastcifarError("no space; buy some"), UsageError("no space; buy some")])
def test_our_own_message_has_its_cure(error):
    for raised in of_a_worker(error):
        assert reason(raised, CURE) == "no space; buy some"


def test_other_errors_get_one():
    told, in_constructor = of_a_worker(MemoryError("8 GB are too much"))
    assert reason(told, CURE) == "MemoryError: 8 GB are too much; read the log"
    assert reason(in_constructor, CURE).endswith("MemoryError: 8 GB are too much; read the log")
    assert reason(ValueError("first\nsecond")) == "ValueError: first"
    assert reason(ValueError()) == "ValueError"


def test_of_a_dead_actor_its_reason():
    died = ActorDiedError()
    died.error_msg = "The actor died unexpectedly.\n\tpid: 7\nThe node has died. Node Id: ab. Some common causes: many"
    assert reason(died) == "ActorDiedError: The node has died"
    assert reason(ActorDiedError()) == "ActorDiedError: The actor died unexpectedly before finishing this task."
