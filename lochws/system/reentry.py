"""Re-entry: whether a call interrupts lochws on its own thread.

Python runs signal handlers, finalizers, callbacks of weak references and trace functions between any two
steps of whatever the thread is doing, and they may call any public method. What they interrupt may hold a
lock of lochws, and then the call must not wait for that lock: the thread would wait for itself.
"""

from __future__ import annotations

import sys
from types import FrameType

_PACKAGE = __name__.split(".")[0]
_INSIDE = f"{_PACKAGE}."
#: The parts of lochws that hold locks or move bytes. Handlers that come with lochws are the user's code here.
_CORE = tuple(
    f"{_PACKAGE}.{part}."
    for part in ("connection", "dispatch", "engine", "life", "opening", "protocol", "system", "transport")
)
_DISPATCH = f"{_PACKAGE}.dispatch.registry"
#: The functions that call handlers and hold no lock; the last two use the compiled twin of `dispatch_all`.
_CALLS_HANDLERS = {
    _DISPATCH: {"call", "dispatch_all", "_call", "_dispatch_batch"},
    f"{_PACKAGE}.engine.inbox": {"deliver"},
    f"{_PACKAGE}.engine.reader": {"_deliver"},
}
_CALLS_FUNCTIONS = {f"{_PACKAGE}.system.usercode": {"run"}, f"{_PACKAGE}.connection.receipts": {"run_calls"}}
#: The modules of the locks that are not the control lock, and of the threads that hold a loop's baton.
_LOCKING = {
    f"{_PACKAGE}.{name}" for name in (
        "connection.pacing", "connection.sendqueue", "engine.reader", "engine.supervisor",
        "transport.layered", "transport.stream", "transport.tls",
    )
}
#: The functions around public methods that check their arguments: they hold no lock.
_WRAPPERS = f"{_PACKAGE}.dispatch.arguments"


def is_nested() -> bool:
    """Return whether any call of lochws is under way on this thread, below the code that makes this one.

    Unlike `interrupts_lochws`, it counts every part of lochws, the ready-made handlers included, but not
    calls of the user's handlers, during which no lock is held.
    """
    frame: FrameType | None = sys._getframe(1)
    is_own = True
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name != _PACKAGE and not name.startswith(_INSIDE):
            is_own = False
        elif not is_own:
            return not _calls_handlers(name, frame)
        frame = frame.f_back
    return False


def holds_up_others() -> bool:
    """Return whether a wait would keep other threads from going on, since the call interrupts lochws.

    The code that it interrupts may hold the lock of a send queue or a stream, or a loop's baton. A call of a
    handler, or of a function given as an option, holds none.
    """
    frame: FrameType | None = sys._getframe(1)
    is_own, is_below = True, False
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name != _PACKAGE and not name.startswith(_INSIDE):
            is_own = False
        elif not is_own:
            is_call = frame.f_code.co_name in _CALLS_FUNCTIONS.get(name, ()) or _calls_handlers(name, frame)
            if is_call and not is_below:
                return False
            is_below = True
            if name in _LOCKING:
                return True
        frame = frame.f_back
    return False


def _calls_handlers(name: str, frame: FrameType) -> bool:
    return frame.f_code.co_name in _CALLS_HANDLERS.get(name, ())


def interrupts_lochws() -> bool:
    """Return whether the call under way comes from code that interrupts lochws, or that lochws has called.

    Looks through the calling thread's stack: the frames of the call itself come first, then the user's code,
    and below it ours again if that is so. Takes about 30 ns per frame: for the rare case that a lock is
    taken.
    """
    return interrupted_module() is not None


def interrupted_module() -> str | None:
    """Return the name of the module of lochws that the call under way interrupts, or that has called it.

    It is the innermost one below the user's code; `dispatch.registry` if a handler makes the call. Returns
    None if `interrupts_lochws` is False.
    """
    frame: FrameType | None = sys._getframe(1)
    is_own = True
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith(_CORE) or name == _WRAPPERS:
            is_own = False
        elif not is_own:
            return _DISPATCH if _calls_handlers(name, frame) else name
        frame = frame.f_back
    return None
