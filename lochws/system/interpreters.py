"""Interpreters: threads that end before their sub-interpreter does, and calls at its end.

In the main interpreter the threads of lochws are daemons, so the program can end while they run. CPython
aborts the process if a sub-interpreter ends before its daemon threads, and isolated ones allow none. So
there they are ordinary threads, and the end of the interpreter waits for them. Right before that, functions
registered with `at_end` close the apps and handlers that keep such threads running.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from typing import Any

#: Called at the end of a sub-interpreter, in the order of `atexit`: the last one first.
_at_end: list[Callable[[], object]] = []


@cache
def is_sub() -> bool:
    """Return whether this is a sub-interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from Python 3.13 on, and before
        try:
            interpreters: Any = import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() != interpreters.get_main())
    return False  # this Python has only one


def new_thread(target: Callable[..., object], name: str, *arguments: object) -> threading.Thread:
    """Create a thread that does not outlive its interpreter. It is not started yet."""
    return threading.Thread(target=target, name=name, args=arguments, daemon=not is_sub())


def with_advice(error: RuntimeError) -> RuntimeError:
    """Return the error of a thread that did not start, with advice if the interpreter allows no threads."""
    if not (is_sub() and "not supported" in str(error)):
        return error
    return RuntimeError(f"{error}; an app needs threads: create the interpreter with threads allowed")


def at_end(function: Callable[[], object]) -> None:
    """Have a function called when the interpreter ends; in a sub-interpreter, before it waits for threads."""
    if not is_sub():
        atexit.register(function)
        return
    if not _at_end:
        # `atexit` would be too late: its functions are called after that wait.
        register: Any = getattr(threading, "_register_atexit", atexit.register)
        register(_end)
    _at_end.append(function)


def not_at_end(function: Callable[[], object]) -> None:
    """Cancel the call of a function that was passed to `at_end`. Other functions are ignored."""
    atexit.unregister(function)
    with suppress(ValueError):
        _at_end.remove(function)


def _end() -> None:
    with ExitStack() as stack:  # calls the last one first, and every one even if another raises
        for function in _at_end:
            stack.callback(function)
