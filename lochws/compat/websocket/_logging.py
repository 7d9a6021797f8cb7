"""Logging of the drop-in for websocket-client: its logger `websocket`, and its switch for traces."""

from __future__ import annotations

import logging

_logger = logging.getLogger("websocket")
_logger.addHandler(logging.NullHandler())
_default_level = _logger.level

_is_tracing = False
_trace_handler: logging.Handler | None = None


def enableTrace(
    traceable: bool, handler: logging.Handler | None = None, level: str = "DEBUG"
) -> None:
    """Log each frame that is sent or received to the logger `websocket`, or stop doing so. Any thread.

    Args:
        traceable: True to start, False to stop.
        handler: receives the records; None writes them to stderr. A second call replaces the handler of the
            first.
        level: the name of the logger's level. Frames are logged at level DEBUG.
    """
    global _is_tracing, _trace_handler  # noqa: PLW0603  there is one such logger per process
    if _trace_handler is not None:
        _logger.removeHandler(_trace_handler)
        _trace_handler = None
    if traceable:
        _trace_handler = logging.StreamHandler() if handler is None else handler
        _logger.addHandler(_trace_handler)
        _logger.setLevel(getattr(logging, level))
    else:
        _logger.setLevel(_default_level)
    _is_tracing = bool(traceable)


def dump(title: str, message: str) -> None:
    """Log a message below a title at level DEBUG, while tracing is enabled."""
    if _is_tracing:
        _logger.debug("--- %s ---\n%s", title, message)


def error(msg: str) -> None:
    """Log a message to the logger `websocket` at level ERROR."""
    _logger.error("%s", msg)


def warning(msg: str) -> None:
    """Log a message to the logger `websocket` at level WARNING."""
    _logger.warning("%s", msg)


def info(msg: str) -> None:
    """Log a message to the logger `websocket` at level INFO."""
    _logger.info("%s", msg)


def debug(msg: str) -> None:
    """Log a message to the logger `websocket` at level DEBUG."""
    _logger.debug("%s", msg)


def trace(msg: str) -> None:
    """Log a message at level DEBUG, while tracing is enabled."""
    if _is_tracing:
        _logger.debug("%s", msg)


def isEnabledForError() -> bool:
    """Return whether the logger `websocket` takes records of level ERROR."""
    return _logger.isEnabledFor(logging.ERROR)


def isEnabledForDebug() -> bool:
    """Return whether the logger `websocket` takes records of level DEBUG."""
    return _logger.isEnabledFor(logging.DEBUG)


def isEnabledForTrace() -> bool:
    """Return whether frames are logged: see `enableTrace`."""
    return _is_tracing
