"""Executors that do what a test tells them, when it tells them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class ByHand(Executor):
    """Keeps what it is given until the test has it run.

    Attributes:
        given: the arguments, oldest first, of what was not run yet.
        at_once: whether what is given from now on is run at once, on the thread that gives it.
    """

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.at_once = False
        self._kept: list[tuple[Future[Any], Callable[..., Any]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keep a call, and return its future."""
        assert not kwargs
        self.given.append(args[0])
        self._kept.append((Future(), function))
        future = self._kept[-1][0]
        if self.at_once:
            self.run(len(self.given) - 1)
        return future

    def run(self, index: int = 0) -> None:
        """Run one of those that are kept."""
        argument, (future, function) = self.given.pop(index), self._kept.pop(index)
        try:
            future.set_result(function(argument))
        except Exception as error:  # noqa: BLE001  it is the future's
            future.set_exception(error)
