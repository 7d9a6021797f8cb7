"""Metrics of apps: a plain dict always, and a collector for Prometheus where prometheus-client is installed.

::

    metrics = Metrics()
    metrics.watch(app, "feed")
    metrics.snapshot()["feed"]["messages_received"]

    metrics.register()                      # pip install 'lochws[metrics]'
    prometheus_client.start_http_server(9100)

A received message costs about 0.25 microseconds on the handlers' thread, and 0.3 more for each handler that
is called; one that is sent costs about 0.25 on the thread that writes it. Who is not watched pays nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import WebSocketApp
from ..system import forks
from ..url import without_secrets
from ._parts.checks import check_app
from ._parts.measures import Measures

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

#: By key of the snapshot: the name for Prometheus, and what it is.
_COUNTERS = {
    "connections": ("lochws_connections", "Connections that were opened."),
    "messages_received": ("lochws_messages_received", "Text and binary messages received."),
    "messages_sent": ("lochws_messages_sent", "Text and binary messages handed to the kernel whole."),
    "messages_dropped": ("lochws_messages_dropped", "Messages discarded because the send queue was full."),
    "messages_unsent": ("lochws_messages_unsent", "Messages accepted and not sent: their connection ended."),
    "bytes_received": ("lochws_received_bytes", "Bytes received, frame heads included, TLS not."),
    "bytes_sent": ("lochws_sent_bytes", "Bytes sent, frame heads included, TLS not."),
    "handler_errors": ("lochws_handler_errors", "Exceptions of handlers."),
}
_GAUGES = {
    "open": ("lochws_open", "Whether messages can be sent now: 1 or 0."),
    "queued_bytes": ("lochws_queued_bytes", "Bytes that wait for the network to take them."),
    "waiting_bytes": ("lochws_waiting_bytes", "Bytes of received messages that wait for handlers."),
    "latency_seconds": ("lochws_latency_seconds", "From the last answered ping to its pong."),
}
_HISTOGRAMS = {
    "received_size_bytes": ("lochws_received_message_size_bytes", "Sizes of received messages."),
    "sent_size_bytes": ("lochws_sent_message_size_bytes", "Sizes of messages that were sent."),
    "ping_seconds": ("lochws_ping_seconds", "From pings to their pongs."),
}


class Metrics:
    """Counts and times what happens to apps. One object for all of a program's, or several.

    All methods may be called from any thread, and wait for nothing. What is counted here begins with `watch`;
    what `WebSocketApp.counters` counts begins with the app.
    """

    def __init__(self) -> None:
        # Guards changes of _watched, which is replaced whole; a leaf. Signal handlers may come to it as well.
        self._lock = threading.RLock()
        self._watched: dict[str, tuple[WebSocketApp, Measures]] = {}
        forks.register(self)

    def watch(self, app: WebSocketApp, name: str | None = None) -> None:
        """Measure an app from now on.

        Args:
            app: the app, which is kept alive until `unwatch`.
            name: what it is called; None for its URL, without what may be secret in it.

        Raises:
            TypeError: it is no app, or the name is no text.
            ValueError: it is watched already, or another app by the same name.
        """
        check_app(app)
        name = without_secrets(app.url) if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: expected a str, or None for the app's URL")
        measures = Measures()
        with self._lock:
            if any(other is app for other, _ in self._watched.values()):
                raise ValueError(f"{app!r} is watched already")
            if name in self._watched:
                raise ValueError(f"name={name!r}: another app is watched by this name")
            self._watched = {**self._watched, name: (app, measures)}
        app.add_handler(measures)
        app.wrap_handlers(measures.wrapped)

    def unwatch(self, app: WebSocketApp) -> None:
        """Measure an app no more, and forget what was measured.

        Raises:
            ValueError: it is not watched.
        """
        watched = [measures for other, measures in self._watched.values() if other is app]
        if not watched:
            raise ValueError(f"{app!r} is not watched")
        app.unwrap_handlers(watched[0].wrapped)
        app.remove_handler(watched[0])
        with self._lock:  # last: what other wrappers raise may come out of the above
            self._watched = {name: pair for name, pair in self._watched.items() if pair[0] is not app}

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """All numbers by the apps' names, as plain values that can be written as JSON.

        For each app:

        ``state``
            in one word: `lochws.State`'s value.
        ``open``
            1 if messages can be sent, else 0.
        ``connections``, ``messages_received``, ``messages_sent``, ``messages_dropped``, ``bytes_received``, \
``bytes_sent``
            `lochws.Counters`.
        ``messages_unsent``
            messages that were accepted and never left: the sizes of `Disconnected.unsent`.
        ``queued_bytes``, ``waiting_bytes``
            what waits for the network, and for handlers.
        ``latency_seconds``
            of the last ping, or None.
        ``reconnects``
            attempts after an end, by its cause: ``"client"``, ``"server"`` or ``"network"``
            (`Disconnected.ended_by`), ``"unresponsive"``, ``"protocol_error"``, ``"rejected"``, or for a
            failed attempt its phase (`ConnectFail.phase`).
        ``handler_errors``
            exceptions of handlers.
        ``received_size_bytes``, ``sent_size_bytes``, ``ping_seconds``
            histograms: a dict of ``count``, ``sum`` and ``buckets``, in which each upper bound has the number
            of values up to it.
        ``handler_seconds``
            such a histogram for each name that handlers are registered for, such as ``"text"``.

        Numbers that change meanwhile may be of different moments.
        """
        return {name: _numbers(app, measures) for name, (app, measures) in self._watched.items()}

    def register(self, registry: CollectorRegistry | None = None) -> Collector:
        """Let prometheus-client scrape the numbers: as ``lochws_…``, with the label ``app``.

        Nothing is counted twice: the collector looks at what is counted anyway, whenever it is scraped.

        Args:
            registry: where; None for prometheus-client's own.

        Returns:
            The collector, which `unregister` of the registry takes.

        Raises:
            ImportError: prometheus-client is not installed.
            ValueError: the registry has another of these: one `Metrics` can watch many apps.
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
        """In the child of a fork: what was counted until then stays."""
        self._lock = threading.RLock()


class Collector:
    """Gives prometheus-client the numbers of a `Metrics`. Made by `Metrics.register`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """The families without their values, by which a registry notices others of the same names."""
        return self._families({})

    def collect(self) -> Iterator[Metric]:
        """The families with their values now."""
        return self._families(self._metrics._watched)

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
            "lochws_reconnects", "Attempts after an end, by its cause.", labels=["app", "cause"]
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
            "lochws_handler_seconds", "What handlers take, by what they handle.", labels=["app", "event"]
        )
        for name, found in numbers.items():
            for event, taken in found["handler_seconds"].items():
                handlers.add_metric([name, event], _buckets(taken), taken["sum"])
        yield handlers


def _buckets(histogram: dict[str, Any]) -> list[tuple[str, float]]:
    """A histogram's buckets, their bounds written as Prometheus does."""
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
        "bytes_received": counters.bytes_received,
        "bytes_sent": counters.bytes_sent,
        "queued_bytes": app.queued_bytes,
        "waiting_bytes": app.waiting_bytes,
        "latency_seconds": app.latency,
        "reconnects": dict(measures.reconnects),
        "handler_errors": measures.handler_errors,
        "received_size_bytes": measures.received_sizes.as_dict(),
        "sent_size_bytes": measures.sent_sizes.as_dict(),
        "ping_seconds": measures.pings.as_dict(),
        "handler_seconds": {name: taken.as_dict() for name, taken in measures.handlers.copy().items()},
    }
