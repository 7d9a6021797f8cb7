"""Executors that run work when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class ByHand(Executor):
    """An executor that keeps its work until the test runs it.

    Attributes:
        given: the arguments of what has not been run yet, oldest first.
        at_once: whether work is run immediately from now on, on the thread that submits it.
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
        """Run one of the kept calls."""
        argument, (future, function) = self.given.pop(index), self._kept.pop(index)
        try:
            future.set_result(function(argument))
        except Exception as error:  # noqa: BLE001  it belongs to the future
            future.set_exception(error)
