"""Steps: generators that yield what they wait for, and the driver that waits on the calling thread.

The opening of a connection is written once, as a generator. Where it has to wait, it yields a `Wait`, and its
driver resumes it when the wait is over: with the sockets that are ready, or with none. It may also be resumed
early, so it then checks again. A loop can drive thousands of such generators on one thread.

Exceptions of the wait itself, such as Ctrl-C or a lack of descriptors, are raised inside the generator.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Generator
from time import monotonic
from typing import Protocol, TypeAlias, TypeVar

from . import forks
from .deadline import Deadline
from .report import is_interrupt
from .waits import slice_of

#: For a few channels and a short time. poll() is preferred: unlike epoll and kqueue it needs no descriptor
#: of its own, and unlike select() it takes descriptors over 1023.
Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.DefaultSelector)


class HasDescriptor(Protocol):
    """Anything that a selector can wait on."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Wait:
    """A wait for sockets or for the time, which a call of the deadline's `wake` also ends.

    Attributes:
        channels: the sockets to wait for, each with ``selectors.EVENT_…``; one that is ready ends the wait.
        until: when the wait ends by itself, in monotonic seconds; None for never.
    """

    __slots__ = ("channels", "until")

    def __init__(self, channels: tuple[tuple[HasDescriptor, int], ...], until: float | None) -> None:
        self.channels = channels
        self.until = until


#: The channels that are ready, as the driver sends them to the generator.
Ready: TypeAlias = tuple[HasDescriptor, ...]

T = TypeVar("T")
E = TypeVar("E")

#: A generator that yields its waits and returns a result.
Steps: TypeAlias = Generator[Wait, Ready, T]


def performed(steps: Generator[Wait | E, Ready, T], deadline: Deadline) -> Generator[E, None, T]:
    """Perform the waits of a generator on the calling thread, and yield everything else.

    Args:
        steps: the generator; it is closed if this generator is.
        deadline: the deadline that the steps wait under, which can be cancelled.
    """
    forks.register(deadline)
    ready: Ready = ()
    failure: BaseException | None = None
    try:
        step = next(steps)
        while True:
            if isinstance(step, Wait):
                try:
                    ready = _perform(step, deadline)
                except BaseException as error:  # noqa: BLE001  it is raised in the generator
                    failure = raisable(error)
            else:
                yield step
                ready = ()
            step = _resume(steps, ready, failure)
            failure = None
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def told(steps: Generator[Wait | E, Ready, T], tell: Callable[[E], object]) -> Steps[T]:
    """Pass on the waits of a generator, and call a function with everything else that it yields."""
    ready: Ready = ()
    failure: BaseException | None = None
    try:
        step = next(steps)
        while True:
            if isinstance(step, Wait):
                try:
                    ready = yield step
                except BaseException as error:  # noqa: BLE001  it is raised in the generator
                    failure = error
            else:
                tell(step)
                ready = ()
            step = _resume(steps, ready, failure)
            failure = None
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def drive(steps: Steps[T], deadline: Deadline) -> T:
    """Perform the waits of a generator on the calling thread. Return its result, or raise its exception."""
    try:
        next(performed(steps, deadline))
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the steps yielded something other than a wait")


def must_propagate(error: BaseException) -> bool:
    """Return whether a generator must let an exception through: Ctrl-C and the like, or its own end."""
    return is_interrupt(error) or isinstance(error, GeneratorExit)


def raisable(error: BaseException) -> BaseException:
    """Return an exception of the user's to raise in a generator, where StopIteration has another meaning."""
    if not isinstance(error, (StopIteration, GeneratorExit)):
        return error
    substitute = RuntimeError(f"{type(error).__name__} was raised")
    substitute.__cause__ = error
    return substitute


def _resume(
    steps: Generator[Wait | E, Ready, T], ready: Ready, failure: BaseException | None
) -> Wait | E:
    try:
        return steps.send(ready) if failure is None else steps.throw(failure)
    except GeneratorExit as error:
        if isinstance(failure, GeneratorExit):
            raise
        raise raisable(error) from error  # a user's socket raised it, and it is not our own end


def _perform(wait: Wait, deadline: Deadline) -> Ready:
    with Selector() as selector:
        ours = selector.register(deadline, selectors.EVENT_READ)
        for channel, events in wait.channels:
            selector.register(channel, events)
        timeout = None if wait.until is None else max(0.0, wait.until - monotonic())
        ready = [key.fileobj for key, _ in selector.select(slice_of(timeout)) if key is not ours]
    deadline.drain()
    return tuple(ready)  # type: ignore[arg-type]  # the objects that were registered
