"""`lochws bench`: round-trip times and throughput of an echo server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from .exits import Exit
from .load import Load
from .output import is_quiet, rich_console
from .shown import as_json
from .target import Seconds, Target, is_terminal, limit, running, target_options

#: The number of messages, and the maximum duration in seconds, of the warm-up: servers are slower at first.
WARM_UP = 50
WARM_UP_SECONDS = 2.0
#: Seconds that the closing handshake may take.
STOP_SECONDS = 5.0
_PERCENTILES = (50, 90, 99)

Measured = TypeVar("Measured")


@target_options
@click.command(
    short_help="Benchmark the echo server at URL.",
    help="""Benchmark the echo server at URL, which must send each message back unchanged.

    After a warm-up there are two runs: one message at a time, for round-trip times, and then many in flight,
    for throughput. The figures include the overhead of this program.
    """,
)
@click.option("--seconds", type=Seconds(), default=3.0, show_default=True, help="Duration of each run.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="At most this many messages per run.")
@click.option(
    "--size", type=click.IntRange(16, 1 << 20), default=128, show_default=True, metavar="BYTES",
    help="Size of each message.",
)
@click.option(
    "--in-flight", type=click.IntRange(1, 10_000), default=100, show_default=True, metavar="N",
    help="Messages in flight in the second run.",
)
@click.option("--binary", is_flag=True, help="Send binary messages instead of text.")
@click.option("--json", is_flag=True, help="Print the result as a JSON object.")
def bench(
    *, seconds: float, count: int | None, size: int, in_flight: int, binary: bool, json: bool, **options: Any
) -> Exit:
    """Measure the server and print the result."""
    if limit(seconds) is None:
        raise click.BadParameter("expected a number above 0", param_hint="--seconds")
    target = Target.taken_from(options)
    app = target.app()
    load = Load(app, size, is_binary=binary)
    with running(app, STOP_SECONDS, poll=None, persist=False):
        app.wait_ready()
        load.run(WARM_UP_SECONDS, WARM_UP, 1)
        times, _ = _watched("one at a time", load, lambda: load.run(seconds, count, 1), seconds, count)
        title = f"{in_flight} in flight"
        many, took = _watched(title, load, lambda: load.run(seconds, count, in_flight), seconds, count)
    result: dict[str, Any] = {
        "size": size, "in_flight": in_flight, "messages_per_second": many.count / took,
        "bytes_per_second": many.count * size / took, "messages": many.count, "round_trips": times.count,
        "round_trip_ms": {
            **{f"p{percent}": times.percentile(percent) * 1000 for percent in _PERCENTILES},
            "max": times.most * 1000,
        },
    }
    click.echo(as_json(result) if json else _describe(result))
    return Exit.OK


def _describe(result: dict[str, Any]) -> str:
    """Return a description of a result, in three lines."""
    trip = ", ".join(f"{name} {value:.3f} ms" for name, value in result["round_trip_ms"].items())
    rates = f"{result['messages_per_second']:,.0f} messages/s, {result['bytes_per_second'] / 1e6:,.2f} MB/s"
    many = f"{result['messages']:,} messages"
    return (
        f"round trip   {trip}  ({result['round_trips']:,} messages, one at a time)\n"
        f"throughput   {rates} each way  ({many}, {result['in_flight']:,} in flight)\n"
        f"every reply was identical to its message of {result['size']:,} bytes"
    )


def _watched(
    title: str, load: Load, run: Callable[[], Measured], seconds: float, count: int | None
) -> Measured:
    """Run a measurement, with a progress bar on stderr if that is a terminal."""
    with _bar(title, load, seconds, count):
        return run()


@contextmanager
def _bar(title: str, load: Load, seconds: float, count: int | None) -> Iterator[None]:
    if is_quiet() or not is_terminal(2):
        yield
        return
    # A large package, of no use in pipes.
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    words = TextColumn("{task.description:>14}"), TextColumn("{task.fields[done]:>9,} messages")
    columns = words[0], BarColumn(), words[1]
    over = threading.Event()
    with Progress(*columns, TimeElapsedColumn(), console=rich_console(err=True), transient=True) as progress:
        task = progress.add_task(title, total=count or seconds, done=0)

        def follow() -> None:
            while not over.wait(0.1):
                done = load.done
                progress.update(task, completed=done if count else progress.tasks[task].elapsed, done=done)

        follower = threading.Thread(target=follow, name="progress", daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()
