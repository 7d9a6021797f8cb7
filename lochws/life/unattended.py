"""Unattended apps: a warning when a program ends while an app that was not closed is still running.

A sub-interpreter closes its apps when it ends, since it waits for their threads.
"""

from __future__ import annotations

import atexit
import logging
import sys
from functools import cache
from time import monotonic
from typing import Protocol

from ..system.interpreters import at_end, is_sub
from ..system.report import report
from ..url import without_secrets
from .interruption import INTERRUPT_SECONDS


class Attended(Protocol):
    """The life of an app, as seen from here."""

    url: str

    @property
    def is_unattended(self) -> bool:
        """True if the app is running and has not been closed."""

    def close(self, code: int | None, reason: str | bytes) -> None:
        """Stop the app, with a closing handshake if there is a connection."""

    def join(self, timeout: float | None) -> bool:
        """Wait until the app has stopped. Return False on timeout."""

    def drop(self, reason: str) -> None:
        """Drop the connection, if there is one."""


# The lives that have begun and not ended. Single operations on a set need no lock, which matters because
# signal handlers and finalizers may run at any time.
_running: set[Attended] = set()


def began(life: Attended) -> None:
    """Record that a life has begun. Any thread."""
    _prepare_end()
    _running.add(life)


def ended(life: Attended) -> None:
    """Record that a life has ended, or belongs to the parent after a fork. Any thread."""
    _running.discard(life)


@cache
def _prepare_end() -> None:
    if is_sub():
        at_end(_close_all)


def _close_all() -> None:
    """End all apps before their sub-interpreter ends, with closing handshakes if time allows."""
    until = monotonic() + INTERRUPT_SECONDS
    for life in (lives := list(_running)):
        life.close(1001, "the interpreter ends")
    for life in lives:
        if not life.join(max(0.0, until - monotonic())):
            life.drop("the interpreter ends")


def _warn() -> None:
    """Warn that apps end with the program, which surprises authors whose last line is ``app.start()``."""
    if hasattr(sys, "last_type") or hasattr(sys, "ps1"):
        return  # an exception ended the program, or the user at an interactive prompt did
    urls = [without_secrets(life.url) for life in list(_running) if life.is_unattended]
    if urls:
        report(
            logging.WARNING,
            "the program ends while %s running (%s): the threads of lochws are daemons and end with it. "
            "Call join() or run_forever() to keep the program running, or close() to end the app",
            "an app is still" if len(urls) == 1 else f"{len(urls)} apps are still", urls[0],
        )


atexit.register(_warn)
