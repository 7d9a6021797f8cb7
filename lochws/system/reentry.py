"""Re-entry: whether a call interrupts lochws on its own thread.

Python runs signal handlers, finalizers, callbacks of weak references and trace functions between any two
steps of whatever the thread is doing, and they may call any public method. What they interrupt may hold a
lock of lochws, and then the call must not wait for that lock: the thread would wait for itself.
"""

from __future__ import annotations

import sys
from types import FrameType

#: The parts of lochws that hold locks or move bytes. Handlers that come with lochws are the user's code here.
_CORE = tuple(
    f"{__name__.split('.')[0]}.{part}."
    for part in ("connection", "dispatch", "engine", "life", "opening", "protocol", "system", "transport")
)
#: The functions around public methods that check their arguments: they hold no lock.
_WRAPPERS = f"{__name__.split('.')[0]}.dispatch.arguments"


def interrupts_lochws() -> bool:
    """Return whether the call under way comes from code that interrupts lochws, or that lochws has called.

    Looks through the calling thread's stack: the frames of the call itself come first, then the user's code,
    and below it ours again if that is so. Takes about 30 ns per frame: for the rare case that a lock is
    taken.
    """
    return interrupted_module() is not None


def interrupted_module() -> str | None:
    """Return the name of the module of lochws that the call under way interrupts, or that has called it.

    It is the innermost one below the user's code. Returns None if `interrupts_lochws` is False.
    """
    frame: FrameType | None = sys._getframe(1)
    is_own = True
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith(_CORE) or name == _WRAPPERS:
            is_own = False
        elif not is_own:
            return name
        frame = frame.f_back
    return None
