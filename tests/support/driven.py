"""Driven steps: generators of lochws that wait, as functions that block."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lochws.system.deadline import Deadline
from lochws.system.steps import Steps, drive

P = ParamSpec("P")
T = TypeVar("T")


def driven(function: Callable[P, Steps[T]]) -> Callable[P, T]:
    """Return a function that performs the steps of `function` on the calling thread, under its `deadline`."""
    signature = inspect.signature(function)

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        deadline = signature.bind(*args, **kwargs).arguments["deadline"]
        assert isinstance(deadline, Deadline)
        return drive(function(*args, **kwargs), deadline)

    return call
