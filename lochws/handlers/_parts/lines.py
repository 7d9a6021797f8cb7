"""Log lines of ready-made handlers about one app or feed, in the form of an app's own lines."""

from __future__ import annotations

from ... import WebSocketApp
from ...system.rate_limit import RateLimit
from ...system.report import report, safe_repr
from ...url import without_queries
from .checks import AppOrFeed


def report_about(
    app: AppOrFeed,
    level: int,
    kind: str,
    message: str,
    *args: object,
    error: BaseException | None = None,
    limit: RateLimit | None = None,
    **fields: object,
) -> None:
    """Log a message that begins with the app's URL, without its query, or with the feed. Raises nothing.

    Args:
        app: the app or the feed.
        level: one of `logging`'s, such as ``logging.WARNING``.
        kind: the field ``ws_event`` of the log record.
        message: the text, with ``%`` placeholders for `args`.
        error: an exception, whose traceback is logged too.
        limit: decides which of several similar messages are logged.
        fields: further attributes of the log record, whose names begin with ``ws_``.
    """
    place = without_queries(app.url) if isinstance(app, WebSocketApp) else safe_repr(app)
    report(
        level, f"%s: {message}", place, *args, error=error, limit=limit,
        fields={"ws_event": kind, "ws_url": place, **fields},
    )
