"""Metrics: counters and histograms of apps, as a plain dict or for Prometheus (with prometheus-client).

::

    metrics = Metrics()
    metrics.watch(app, "feed")
    metrics.snapshot()["feed"]["messages_received"]

    metrics.register()                      # pip install 'lochws[metrics]'
    prometheus_client.start_http_server(9100)

A received message costs about 0.25 microseconds on the handlers' thread, and 0.3 more for each handler
called. A sent message costs about 0.25 microseconds on the thread that writes it. Apps that are not watched
pay nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import WebSocketApp
from ..system import forks
from ..system.control import control_lock
from ..system.lazy import ensure_whole
from ..url import without_secrets
from ._parts.checks import check_app
from ._parts.measures import Measures

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from .outbox import Outbox

#: The Prometheus name and help text for each key of the snapshot.
_COUNTERS = {
    "connections": ("lochws_connections", "Connections that were opened."),
    "messages_received": ("lochws_messages_received", "Text and binary messages received."),
    "messages_sent": ("lochws_messages_sent", "Text and binary messages handed completely to the kernel."),
    "messages_dropped": ("lochws_messages_dropped", "Messages discarded because the send queue was full."),
    "messages_unsent": (
        "lochws_messages_unsent", "Messages accepted but not sent, because the connection ended."
    ),
    "messages_in_doubt": (
        "lochws_messages_in_doubt", "Messages sent without proof that the server read them, at most."
    ),
    "bytes_received": ("lochws_received_bytes", "Bytes received, including frame headers, without TLS."),
    "bytes_sent": ("lochws_sent_bytes", "Bytes sent, including frame headers, without TLS."),
    "handler_errors": ("lochws_handler_errors", "Exceptions raised by handlers."),
    "stale": ("lochws_stale", "Times that the server sent no message for stale_after seconds."),
}
_GAUGES = {
    "open": ("lochws_open", "Whether messages can be sent now: 1 or 0."),
    "queued_bytes": ("lochws_queued_bytes", "Bytes waiting to be sent."),
    "waiting_bytes": ("lochws_waiting_bytes", "Bytes of received messages waiting for handlers."),
    "last_message_time": (
        "lochws_last_message_timestamp_seconds",
        "When the last message that handlers have seen was received, in seconds since 1970.",
    ),
    "latency_seconds": ("lochws_latency_seconds", "Seconds from the last answered ping to its pong."),
}
_HISTOGRAMS = {
    "received_size_bytes": ("lochws_received_message_size_bytes", "Sizes of received messages."),
    "sent_size_bytes": ("lochws_sent_message_size_bytes", "Sizes of sent messages."),
    "ping_seconds": ("lochws_ping_seconds", "Seconds from pings to their pongs."),
    "outage_seconds": ("lochws_outage_seconds", "Seconds from the end of a connection to the next Ready."),
}
#: The same for the attributes of an outbox's counts that rise, and for those that also fall.
_OUTBOX_COUNTERS = {
    "put": ("lochws_outbox_put", "Messages that were put into the outbox."),
    "sent": ("lochws_outbox_sent", "How often a message of the outbox was sent."),
    "in_doubt": ("lochws_outbox_in_doubt", "How often a connection left a message of the outbox in doubt."),
    "confirmed": ("lochws_outbox_confirmed", "Messages of the outbox that were confirmed."),
    "told": ("lochws_outbox_told", "Messages in doubt that were passed to on_in_doubt."),
    "expired": ("lochws_outbox_expired", "Messages of the outbox that were not sent in time."),
    "superseded": ("lochws_outbox_superseded", "Messages of the outbox that later ones replaced."),
    "dropped": ("lochws_outbox_dropped", "Messages that the full outbox dropped."),
}
_OUTBOX_GAUGES = {
    "pending": ("lochws_outbox_pending", "Messages that the outbox keeps."),
    "pending_bytes": ("lochws_outbox_pending_bytes", "Their size, as max_bytes counts it."),
    "in_flight": ("lochws_outbox_in_flight", "Messages of the outbox that were sent and are not confirmed."),
}


class Metrics:
    """Counts and times the events, messages and handlers of apps. One object can watch any number of apps.

    All methods may be called from any thread, and never block. Numbers counted here start at `watch`; those
    taken from `WebSocketApp.counters` start with the app.
    """

    def __init__(self) -> None:
        # Guards changes of _watched, which is replaced whole.
        self._lock = control_lock()
        self._watched: dict[str, tuple[WebSocketApp, Measures]] = {}
        self._outboxes: dict[str, Outbox] = {}  # likewise
        forks.register(self)

    def watch(self, app: WebSocketApp, name: str | None = None) -> None:
        """Measure an app from now on.

        Args:
            app: the app; it is kept alive until `unwatch`.
            name: the name of the app in the metrics; None for its URL, with possible secrets removed.

        Raises:
            TypeError: `app` is not a WebSocketApp, or `name` is not a str.
            ValueError: the app is already being watched, or another app is being watched by the same name.
        """
        check_app(app)
        name = without_secrets(app.url) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: expected a str, or None for the app's URL")
        measures = Measures()
        with self._lock:
            if any(other is app for other, _ in self._watched.values()):
                raise ValueError(f"{app!r} is being watched already")
            if name in self._watched:
                raise ValueError(f"name={name!r}: another app is being watched by this name")
            self._watched = {**self._watched, name: (app, measures)}
        app.add_handler(measures)
        app.hooks.wrap_handlers(measures.wrapped)

    def watch_outbox(self, outbox: Outbox, name: str) -> None:
        """Export the `counts` of an outbox, as ``lochws_outbox_…`` with the label ``outbox``.

        Args:
            outbox: the outbox; it is kept alive as long as this object.
            name: its name in the metrics. The outbox that had it before is no longer exported.

        Raises:
            TypeError: `outbox` is not an Outbox, or `name` is not a str.
        """
        ensure_whole("lochws.handlers.outbox")
        from .outbox import Outbox  # noqa: PLC0415  few programs have one

        if not isinstance(outbox, Outbox):
            raise TypeError(f"outbox: expected a lochws.handlers.outbox.Outbox, not {type(outbox).__name__}")
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: expected a str")
        with self._lock:
            self._outboxes = {**self._outboxes, name: outbox}

    def unwatch(self, app: WebSocketApp) -> None:
        """Stop measuring an app, and discard its numbers.

        Raises:
            ValueError: the app is not being watched.
        """
        watched = [measures for other, measures in self._watched.values() if other is app]
        if not watched:
            raise ValueError(f"{app!r} is not being watched")
        app.hooks.unwrap_handlers(watched[0].wrapped)
        app.remove_handler(watched[0])
        with self._lock:  # last: another wrapper may raise in the lines above
            self._watched = {name: pair for name, pair in self._watched.items() if pair[0] is not app}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return all numbers, keyed by app name, as plain values that can be serialised to JSON.

        For each app:

        ``state``
            the value of the app's `lochws.State`, one word.
        ``open``
            1 if messages can be sent, otherwise 0.
        ``connections``, ``messages_received``, ``messages_sent``, ``messages_dropped``, ``bytes_received``, \
``bytes_sent``
            the attributes of `lochws.Counters`.
        ``messages_unsent``
            messages that were accepted but not sent: the sum of the lengths of all `Disconnected.unsent`.
        ``messages_in_doubt``
            messages that were sent, but that the server may not have read, at most: the sum of the lengths of
            all `Disconnected.in_doubt` and of all `Disconnected.in_doubt_omitted`.
        ``queued_bytes``, ``waiting_bytes``
            bytes waiting to be sent, and bytes of received messages waiting for handlers.
        ``last_message_time``
            the `received_time` of the last message that handlers have seen, in seconds since 1970; None
            before the first one.
        ``latency_seconds``
            seconds between the last answered ping and its pong, or None.
        ``reconnects``
            a dict: the number of new attempts by the cause that made them necessary: ``"client"``,
            ``"server"`` or ``"network"`` (`Disconnected.ended_by`), ``"unresponsive"``,
            ``"stale"``, ``"protocol_error"``, ``"rejected"``, or the phase of a failed attempt
            (`ConnectFail.phase`).
        ``handler_errors``
            exceptions raised by handlers.
        ``stale``
            how often the server sent no message for `stale_after` seconds: the number of Stale events.
        ``outage_seconds``
            a histogram of `Ready.outage`: seconds from the end of a connection to the next Ready. An outage
            that has not ended is not in it.
        ``received_size_bytes``, ``sent_size_bytes``, ``ping_seconds``
            histograms, each a dict of ``count``, ``sum`` and ``buckets``; the buckets map each upper bound to
            the number of values at or below it.
        ``handler_seconds``
            a dict of such histograms: how long handlers take, keyed by the event that they are registered
            for, such as ``"text"``.

        The snapshot is not atomic: numbers that change during the call may be from different moments.
        """
        return {name: _numbers(app, measures) for name, (app, measures) in self._watched.items()}

    def register(self, registry: CollectorRegistry | None = None) -> Collector:
        """Export the numbers to Prometheus, as ``lochws_…`` with the label ``app``.

        The collector reads the numbers whenever it is scraped, and counts nothing itself.

        Args:
            registry: the registry to register with; None for prometheus-client's default.

        Returns:
            The collector, to be passed to the registry's ``unregister``.

        Raises:
            ImportError: prometheus-client is not installed.
            ValueError: the registry already has such a collector. One `Metrics` can watch many apps.
        """
        try:
            from prometheus_client import REGISTRY  # noqa: PLC0415  optional
        except ImportError as error:
            raise ImportError(
                "Metrics.register needs prometheus-client: pip install 'lochws[metrics]'"
            ) from error
        collector = Collector(self)
        (REGISTRY if registry is None else registry).register(collector)
        return collector

    def reset_after_fork(self) -> None:
        """Replace the lock in the child of a fork, and keep the numbers counted so far."""
        self._lock = control_lock()


class Collector:
    """A prometheus-client collector for the numbers of a `Metrics`. Created by `Metrics.register`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """Yield the metric families without values; a registry uses them to detect duplicate names."""
        yield from self._families({})
        yield from self._outbox_families({})

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families with their current values."""
        yield from self._families(self._metrics._watched)
        if outboxes := self._metrics._outboxes:
            yield from self._outbox_families(outboxes)

    def _families(self, watched: dict[str, tuple[WebSocketApp, Measures]]) -> Iterator[Metric]:
        from prometheus_client.core import (  # noqa: PLC0415  optional
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        numbers = {name: _numbers(app, measures) for name, (app, measures) in watched.items()}
        for key, (family, words) in _COUNTERS.items():
            counter = CounterMetricFamily(family, words, labels=["app"])
            for name, found in numbers.items():
                counter.add_metric([name], found[key])
            yield counter
        for key, (family, words) in _GAUGES.items():
            gauge = GaugeMetricFamily(family, words, labels=["app"])
            for name, found in numbers.items():
                if found[key] is not None:
                    gauge.add_metric([name], found[key])
            yield gauge
        reconnects = CounterMetricFamily(
            "lochws_reconnects", "Attempts to reconnect, by the cause that ended the one before.",
            labels=["app", "cause"],
        )
        for name, found in numbers.items():
            for cause, count in found["reconnects"].items():
                reconnects.add_metric([name, cause], count)
        yield reconnects
        for key, (family, words) in _HISTOGRAMS.items():
            histogram = HistogramMetricFamily(family, words, labels=["app"])
            for name, found in numbers.items():
                histogram.add_metric([name], _buckets(found[key]), found[key]["sum"])
            yield histogram
        handlers = HistogramMetricFamily(
            "lochws_handler_seconds", "Seconds that handlers take, by event.", labels=["app", "event"]
        )
        for name, found in numbers.items():
            for event, taken in found["handler_seconds"].items():
                handlers.add_metric([name, event], _buckets(taken), taken["sum"])
        yield handlers

    def _outbox_families(self, outboxes: dict[str, Outbox]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  optional

        counts = {name: outbox.counts._asdict() for name, outbox in outboxes.items()}
        kinds = (CounterMetricFamily, _OUTBOX_COUNTERS), (GaugeMetricFamily, _OUTBOX_GAUGES)
        for make, families in kinds:
            for key, (family_name, words) in families.items():
                family = make(family_name, words, labels=["outbox"])
                for name, found in counts.items():
                    family.add_metric([name], found[key])
                yield family


def _buckets(histogram: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the buckets of a histogram, with bounds in the notation of Prometheus."""
    return [
        (bound if bound == "+Inf" else str(float(bound)), count)
        for bound, count in histogram["buckets"].items()
    ]


def _numbers(app: WebSocketApp, measures: Measures) -> dict[str, Any]:
    counters = app.counters
    return {
        "state": app.state.value,
        "open": int(app.is_active),
        "connections": counters.connections,
        "messages_received": counters.messages_received,
        "messages_sent": counters.messages_sent,
        "messages_dropped": counters.messages_dropped,
        "messages_unsent": measures.unsent,
        "messages_in_doubt": measures.in_doubt,
        "bytes_received": counters.bytes_received,
        "bytes_sent": counters.bytes_sent,
        "queued_bytes": app.queued_bytes,
        "waiting_bytes": app.waiting_bytes,
        "latency_seconds": app.latency,
        "reconnects": dict(measures.reconnects),
        "handler_errors": measures.handler_errors,
        "stale": measures.stale,
        "last_message_time": measures.last_message,
        "received_size_bytes": measures.received_sizes.as_dict(),
        "sent_size_bytes": measures.sent_sizes.as_dict(),
        "ping_seconds": measures.pings.as_dict(),
        "outage_seconds": measures.outages.as_dict(),
        "handler_seconds": {name: taken.as_dict() for name, taken in measures.handlers.copy().items()},
    }
