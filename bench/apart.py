"""A contestant in a process of its own, so that none has what another one's tuning does to a process."""

import multiprocessing
from collections.abc import Callable
from typing import Any


class Apart:
    """``Apart(factory, ...)`` builds ``factory(...)`` in a fresh process, and ``.epoch()`` calls its ``epoch`` there."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, factory, arguments), daemon=False)
        self._process.start()
        there.close()
        self._answer()

    def epoch(self) -> Any:
        """What the contestant's epoch returns. Raises RuntimeError with what went wrong there."""
        self._here.send(None)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._here.close()
        self._process.join()

    def _answer(self) -> Any:
        try:
            fine, answer = self._here.recv()
        except EOFError as error:
            raise RuntimeError("the contestant's process has ended") from error
        if not fine:
            raise RuntimeError(answer)
        return answer


def _serve(there: Any, factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        contestant = factory(*arguments)
        there.send((True, None))
        while True:
            there.recv()
            there.send((True, contestant.epoch()))
    except EOFError:  # the end
        pass
    except Exception as error:  # whatever it is, it is told
        there.send((False, f"{type(error).__name__}: {error}"))
