"""What `import hypothesis` finds where Hypothesis is not installed: its tests are skipped, all others run.

A machine lent for its GPU may have torch and pytest and little else. `conftest` puts this folder last on the path.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

REASON = "Hypothesis is not installed"


class Anything:
    """Whatever is asked of a strategy: itself again."""

    def __getattr__(self, name: str) -> "Anything":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> "Anything":
        return self

    def __or__(self, other: object) -> "Anything":
        return self


class settings:
    """A decorator that changes nothing, and profiles that are none."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, test: Callable) -> Callable:
        return test

    @staticmethod
    def register_profile(*_: Any, **__: Any) -> None:
        pass

    load_profile = register_profile


strategies = HealthCheck = Anything()


def assume(*_: Any) -> None:
    """Never called: the tests are skipped."""


def given(*values: Any, **named: Any) -> Callable[[Callable], Callable]:
    """Put a skipped test in a test's place, with those of its parameters that pytest still has to fill in."""

    def decorated(test: Callable) -> Callable:
        parameters = list(inspect.signature(test).parameters.values())
        left = parameters[: len(parameters) - len(values)]  # those given by position fill the last ones

        @pytest.mark.skip(reason=REASON)
        def skipped(**_: Any) -> None:
            raise AssertionError("a skipped test ran")

        skipped.__name__, skipped.__doc__, skipped.__module__ = test.__name__, test.__doc__, test.__module__
        skipped.__signature__ = inspect.Signature([each for each in left if each.name not in named])
        skipped.pytestmark += getattr(test, "pytestmark", [])
        return skipped

    return decorated
