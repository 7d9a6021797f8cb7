"""Helpers that programs import from `websocket._utils`."""

from __future__ import annotations

from contextlib import nullcontext

__all__ = ["NoLock", "extract_err_message", "extract_error_code", "validate_utf8"]

#: A context manager that does nothing.
NoLock = nullcontext


def validate_utf8(utfbytes: str | bytes) -> bool:
    """Return whether bytes are valid UTF-8, or a str can be encoded as such."""
    try:
        if isinstance(utfbytes, str):
            utfbytes.encode()
        else:
            bytes(utfbytes).decode()
    except UnicodeError:
        return False
    return True


def extract_err_message(exception: BaseException) -> str | None:
    """Return the first argument of an exception as a str, or None if it has no arguments."""
    return str(exception.args[0]) if exception.args else None


def extract_error_code(exception: BaseException) -> int | None:
    """Return the first of several arguments of an exception, such as an `errno`; None if it is not an int."""
    first = exception.args[0] if len(exception.args) > 1 else None
    return first if isinstance(first, int) else None
