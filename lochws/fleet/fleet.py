"""Fleet: any number of connections, spread over the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import suppress
from math import isinf
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dask.config
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster
from distributed.protocol.pickle import dumps, loads

from .. import Backoff, Feed, Threads, WebSocketApp
from ..base.callables import check_takes
from ..dispatch.arguments import check_keywords
from ..errors import WebSocketError
from ..options import Timing, TimingOptions, as_timeout, check_bool, check_number, check_range
from ..system.control import may_wait
from ..system.lazy import ensure_whole
from ..system.report import report
from ..system.waits import ReentrantEvent
from .book import Rules
from .desk import Desk, call_desk, end_desk, look_up, nannies_of, uptime
from .hashing import shard_of, stable_text
from .keeper import Orders
from .status import FleetStatus
from .worker_plugin import KeeperPlugin

if sys.version_info >= (3, 11):
    from typing import Self, Unpack
elif TYPE_CHECKING:
    from typing_extensions import Self, Unpack

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .metrics import FleetCollector

Source = TypeVar("Source", bound=Hashable)


class Fleet(Generic[Source]):
    """Connections to many sources, spread over the workers of a Dask cluster.

    ::

        def make_app(url, threads):             # runs on a worker
            app = WebSocketApp(url, threads=threads)
            app.add_handler(store)
            return app

        with Client("tcp://scheduler:8786") as client, Fleet(client, urls, make_app) as fleet:
            fleet.wait_ready()
            print(fleet.status())

    Each source belongs to a shard, and each shard to one worker at a time, which holds its lease. When
    workers join or leave, shards move. The fleet starts at once, and goes on until `close`, or until its
    client has been gone for `linger` seconds. If another scheduler is started at the same address, and the
    client connects to it, the fleet is set up again there.

    The methods may be called from any thread, and block while they wait for the scheduler. On the thread of
    the client's event loop, which runs the handlers of Dask's topics and the coroutines that use an
    asynchronous client, they raise RuntimeError instead. In such a coroutine, use ``await
    asyncio.to_thread(Fleet, client, urls, make_app)``, and likewise for the methods.

    Args:
        client: a Dask client that is connected; None for a `LocalCluster` of the fleet's own, with one
            worker process per processor.
        sources: the sources: URLs, or any keys from which `make_app` makes apps.
        make_app: a function of a source and a `lochws.Threads`, called on workers. It returns an app or a
            feed with its handlers, on these threads, and does not start it. It is pickled, as the functions
            of Dask's tasks are. If it raises an exception, the source is put into quarantine at once.
        name: the name of the fleet. Fleets of the same name on one cluster never own the same shard at the
            same time.
        shards: the number of shards. It should be at least ten times the number of workers, and stay the
            same.
        key: a function that returns the text that identifies a source; None for `stable_text`: a source must
            then be a str, an int, a float, bytes, a UUID, a path, an enum member, or a tuple of these.
        weights: how large a share of the shards a worker gets, relative to the others, by name; 1 for workers
            that are not named. A worker with 0 gets none.
        limits: the maximum number of sources on a worker, by name. Shards that fit nowhere are not placed.
        limit: the maximum for each worker that `limits` does not name; None for no limit.
        lease: how long a worker may own its shards without renewing the lease, in seconds, at least 1; None
            for Dask's setting ``distributed.scheduler.locks.lease-timeout``.
        moves_at_once: how many shards may be moving at a time.
        overlap: whether a shard that moves is opened on the new worker before the old one closes it. During
            the move, both deliver messages. If False, the old one closes it first.
        quarantine_after: after how many failures in a row a source is put into quarantine. An attempt that
            fails counts, and so does a connection that lasts less than 10 seconds.
        quarantine_for: how long a source in quarantine is not tried on any worker, in seconds.
        linger: how long the fleet goes on without its client, in seconds; None for ever.
        supervisors: the supervisors of the threads that all apps of a worker share; see `lochws.Threads`.
        persist: True, or the `Backoff` of all apps.
        timing: the other arguments of `WebSocketApp.start`, such as `ping_rate`, for all apps.

    Raises:
        TypeError, ValueError: an argument is invalid.
        ValueError: a fleet of that name is running, and its client is connected; or it runs without its
            client, but with another `lease` or number of `shards`.
        RuntimeError: the call was made on the thread of the client's event loop.
        OSError: the scheduler does not answer.
    """

    def __init__(
        self,
        client: Client | None,
        sources: Iterable[Source],
        make_app: Callable[[Source, Threads], WebSocketApp | Feed],
        *,
        name: str = "fleet",
        shards: int = 1024,
        key: Callable[[Source], str] | None = None,
        weights: Mapping[str, float] | None = None,
        limits: Mapping[str, int] | None = None,
        limit: int | None = None,
        lease: float | None = None,
        moves_at_once: int = 8,
        overlap: bool = False,
        quarantine_after: int = 10,
        quarantine_for: float = 600.0,
        linger: float | None = 60.0,
        supervisors: int = 4,
        persist: bool | Backoff = True,
        **timing: Unpack[TimingOptions],
    ) -> None:
        _check_client(client)
        if not isinstance(name, str) or not name:
            raise TypeError(f"name={name!r}: expected a str that is not empty")
        check_range("shards", shards, 1, 1 << 20)
        check_range("moves_at_once", moves_at_once, 1)
        check_bool("overlap", overlap)
        check_range("quarantine_after", quarantine_after, 1)
        check_number("quarantine_for", quarantine_for, 0)
        check_range("supervisors", supervisors, 2)
        if linger is not None:
            check_number("linger", linger, 0)
        if limit is not None:
            check_range("limit", limit, 0)
        if not isinstance(persist, Backoff) and persist is not True:
            raise TypeError(f"persist={persist!r}: expected True or a Backoff")
        check_keywords("Fleet()", timing, tuple(TimingOptions.__annotations__))
        Timing(**timing)  # raises for what is invalid
        for what, function, count in (("make_app", make_app, 2), ("key", key, 1)):
            if function is not None or what == "make_app":
                _check_function(what, function, count)
        self.name = name
        self._shards, self._linger = shards, linger
        self._text_of: Callable[[Any], str] = key or stable_text
        self._contents = self._sorted(sources)
        self._rules = Rules(
            lease=_as_lease(lease), moves_at_once=moves_at_once, overlap=overlap,
            quarantine_for=quarantine_for,
            weights=_checked("weights", weights, lambda name, value: check_number(name, value, 0)),
            limits=_checked("limits", limits, lambda name, value: check_range(name, value, 0)),
            limit=limit,
        )
        self._orders = Orders(
            name, self._rules.lease, make_app, self._text_of, quarantine_after, supervisors, persist,
            dict(timing),
        )
        self._lock = threading.RLock()  # held while this talks to the scheduler about the sources
        self._is_closed = ReentrantEvent()
        self._begin(client)

    def _begin(self, client: Client | None) -> None:
        """Set the fleet up on the cluster, and start watching the scheduler."""
        self._own_cluster = None
        if client is None:
            self._own_cluster = LocalCluster(threads_per_worker=1, dashboard_address=":0")
        self.client = client or Client(self._own_cluster)
        self._has_closed = False  # whether a call of close has succeeded
        self._closing = threading.RLock()  # for one call of close at a time; a signal handler's may be nested
        try:
            self._refuse_another()
            self._install()
        except BaseException:
            self._close_cluster()
            raise
        name = f"lochws-fleet-client-{self.name}"
        self._watch = threading.Thread(target=self._stay, name=name, daemon=True)
        self._watch.start()

    def __repr__(self) -> str:
        return f"Fleet({self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the fleet."""
        self.close()

    def status(self) -> FleetStatus:
        """Return the state of the fleet, as its workers last reported it: at most a fifth of a lease ago.

        Raises:
            WebSocketError: the fleet does not run on the scheduler: it was closed, or the scheduler is new.
            OSError: the scheduler does not answer.
        """
        status: FleetStatus = self._call("status")
        return status

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until each shard has an owner that has tried each of its sources at least once.

        Args:
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            Whether that happened in time. It cannot happen while `status` has `unplaced` shards.

        Raises:
            WebSocketError, OSError: see `status`.
        """
        return self._wait(lambda status: status.owned == status.shards, as_timeout("wait_ready", timeout))

    def set_sources(self, sources: Iterable[Source]) -> None:
        """Replace the sources. Connections to those that remain are kept.

        Sources in quarantine that share a shard with a new or removed one are tried again.

        Args:
            sources: all sources from now on.

        Raises:
            TypeError, ValueError: a source is invalid, or listed twice; nothing changes.
            WebSocketError, OSError: see `status`.
        """
        contents = self._sorted(sources)
        self._check_thread()
        with self._lock:
            changed = {
                shard: contents.get(shard, (b"", 0)) for shard in contents.keys() | self._contents.keys()
                if contents.get(shard) != self._contents.get(shard)
            }
            self._call("replace", changed)
            self._contents = contents

    def release(self, sources: Iterable[Source] | None = None) -> int:
        """End the quarantine of some sources, or of all.

        Args:
            sources: the sources, or their texts as `status` shows them; None for all.

        Returns:
            How many of them were in quarantine.

        Raises:
            TypeError: `sources` is one str, or a source has no stable text.
            ValueError: the fleet has no such source.
            WebSocketError, OSError: see `status`.
        """
        if isinstance(sources, str):
            raise TypeError(f"release: sources={sources!r}: expected several sources, such as [{sources!r}]")
        texts = None if sources is None else [
            each if isinstance(each, str) else self._text_of(each) for each in sources
        ]
        for text in texts or ():
            if not self._has(text):
                raise ValueError(
                    f"release: {text!r} is not a source of this fleet: expected its sources, or texts from "
                    "status().quarantined"
                )
        count: int = self._call("release", texts)
        return count

    def drain(self, *workers: str, timeout: float | None = None) -> bool:
        """Move all shards away from workers, a few at a time, and wait until that is done.

        They take no shards until `resume`, and may then be stopped without a gap in what the fleet receives.
        A worker keeps the shards for which the others have no room, until they have room or another joins.

        Args:
            workers: the names of the workers, at least one.
            timeout: the longest time to wait, in seconds; None for no limit.

        Returns:
            Whether the workers have no shards left.

        Raises:
            ValueError: the fleet has no worker of that name, or no other worker that could take shards.
            WebSocketError, OSError: see `status`.
        """
        timeout = as_timeout("drain", timeout)
        _check_names("drain", workers, [each.name for each in self.status().workers])
        if not self._call("drain", list(workers)):
            raise ValueError(_alone("drain", workers))
        return self._wait(
            lambda status: not any(each.shards for each in status.workers if each.name in workers), timeout
        )

    def resume(self, *workers: str) -> None:
        """Let drained workers take shards again.

        Args:
            workers: the names of the workers, at least one.

        Raises:
            ValueError: the fleet has no worker of that name, not even a drained one that is gone.
            WebSocketError, OSError: see `status`.
        """
        _check_names("resume", workers, self._call("names"))
        self._call("resume", list(workers))

    def restart_workers(self, *workers: str, timeout: float | None = None) -> bool:
        """Restart workers one after the other, each when its shards have moved away: a rolling restart.

        The processes are restarted by their nannies, so that they import your code anew.

        Args:
            workers: the names of the workers; all workers if no name is given.
            timeout: the longest time to wait for one worker, in seconds; None for no limit.

        Returns:
            False if a worker was not drained or not back in time. The workers after it are not restarted.

        Raises:
            ValueError: the fleet has no worker of that name, a worker has no nanny, or no other worker could
                take its shards.
            WebSocketError, OSError: see `status`.
        """
        timeout = as_timeout("restart_workers", timeout)
        present = {each.name: each.address for each in self.status().workers}
        names = list(workers) or list(present)
        if names:
            _check_names("restart_workers", names, present)
        nannies = self.client.run_on_scheduler(nannies_of, [present[name] for name in names])
        for name, nanny in zip(names, nannies, strict=True):
            if not nanny:
                raise ValueError(f"restart_workers: {name!r} has no nanny that would restart it")
            if not self._call("has_others", [name]):
                raise ValueError(_alone("restart_workers", [name]))
        for name in names:
            end = None if timeout is None else monotonic() + timeout
            try:
                if not self.drain(name, timeout=timeout):
                    return False
                # The status does not list a worker that has been silent for a lease, or has died meanwhile.
                before = {name: present[name], **{each.name: each.address for each in self.status().workers}}
                address = before[name]
                if not self._restart(address, _left(end)):
                    return False
                is_back = self._wait(_is_back(address, len(before)), _left(end))
            finally:
                self._call("resume", [name])  # even if it is not back
            if not (is_back and self._wait(lambda status: status.owned == status.shards, _left(end))):
                return False
        return True

    def _restart(self, address: str, timeout: float | None) -> bool:
        """Have a worker's nanny restart it. Return False if that took too long."""
        try:
            results = self.client.restart_workers(
                [address], timeout=86400 if timeout is None else max(1.0, timeout), raise_for_error=False
            )
        except KeyError:  # the scheduler has lost this worker, whose nanny restarts it anyway
            return True
        return bool(results[address] != "timed out")

    def close(self, timeout: float | None = 30.0) -> bool:
        """Close all connections, and remove the fleet from the cluster. May be called again if that failed.

        Args:
            timeout: the longest time to wait for the workers, in seconds; None for no limit. Workers that
                cannot be reached close their apps when their leases run out.

        Returns:
            Whether all shards were closed.
        """
        timeout = as_timeout("close", timeout)
        self._check_thread()
        self._is_closed.set()
        end = None if timeout is None else monotonic() + timeout
        if not self._closing.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return False
        try:
            return self._has_closed or self._close(_left(end))
        finally:
            self._closing.release()

    def _close(self, timeout: float | None) -> bool:
        try:
            self._call("begin_closing")
            is_done = _until(lambda: bool(self._call("is_done")), timeout)
            self.client.run_on_scheduler(end_desk, self.name)
        except Exception as error:  # noqa: BLE001  without its client the fleet ends by itself
            report(logging.WARNING, "the fleet %r could not be closed", self.name, error=error)
            is_done = False
        self._has_closed = is_done
        self._close_cluster()
        return is_done

    def register(self, registry: CollectorRegistry | None = None) -> FleetCollector:
        """Export the numbers of `status` to Prometheus, as ``lochws_fleet_…``.

        The metrics have the label ``fleet``, and those of a worker also ``worker``. The collector asks the
        scheduler at each scrape.

        Args:
            registry: the registry to register with; None for prometheus-client's default.

        Returns:
            The collector, to be passed to the registry's ``unregister``.

        Raises:
            ImportError: prometheus-client is not installed.
            ValueError: the registry already has such a collector.
        """
        ensure_whole("lochws.fleet.metrics")
        from .metrics import FleetCollector  # noqa: PLC0415  optional

        try:
            from prometheus_client import REGISTRY  # noqa: PLC0415  optional
        except ImportError as error:
            raise ImportError(
                "Fleet.register needs prometheus-client: pip install 'lochws[metrics]'"
            ) from error
        collector = FleetCollector(self.name, self.status)
        (REGISTRY if registry is None else registry).register(collector)
        return collector

    # Inside.

    def _sorted(self, sources: Iterable[Source]) -> dict[int, tuple[bytes, int]]:
        """Return the sources of each shard, pickled, and how many they are."""
        if isinstance(sources, (str, bytes)):
            raise TypeError(f"sources={sources!r}: expected several sources, such as [{sources!r}]")
        by_text: dict[str, Source] = {}
        for source in sources:
            text = self._text_of(source)
            if not isinstance(text, str):
                raise TypeError(f"key returned {text!r} for {source!r}: expected a str")
            if text in by_text:
                raise ValueError(f"sources: {source!r} is listed twice, or shares its text, {text!r}")
            by_text[text] = source
        shards: dict[int, list[Source]] = {}
        for text, source in by_text.items():
            shards.setdefault(shard_of(text, self._shards), []).append(source)
        try:
            return {shard: (dumps(each), len(each)) for shard, each in shards.items()}
        except Exception as error:
            raise TypeError(f"sources: they cannot be pickled for the workers: {error}") from error

    def _has(self, text: str) -> bool:
        """Return whether a text is that of a source, or of a shard whose sources cannot be loaded."""
        number = text.removeprefix("shard ")
        if number != text and number.isdecimal() and int(number) in self._contents:
            return True
        pickled, count = self._contents.get(shard_of(text, self._shards), (b"", 0))
        return count > 0 and any(self._text_of(source) == text for source in loads(pickled))

    def _refuse_another(self) -> None:
        """Raise ValueError if the name is taken. A fleet whose client is gone is replaced."""
        present = self.client.run_on_scheduler(look_up, self.name)
        if present is None:
            return
        lease, shards, has_client = present
        if has_client:
            raise ValueError(
                f"name={self.name!r}: a fleet of this name is running; close it, or choose another name"
            )
        for what, value, own in (("lease", lease, self._rules.lease), ("shards", shards, self._shards)):
            if value != own:
                raise ValueError(
                    f"{what}={own!r}: the fleet {self.name!r}, whose client is gone, has {what}={value!r}; "
                    "use that, choose another name, or wait until it has ended"
                )

    def _install(self) -> None:
        """Set the fleet up on the scheduler and all workers."""
        # Leases that an earlier scheduler gave are not known to this one, and must have run out.
        is_fresh = isinstance(self.client.cluster, LocalCluster)
        quiet = 0.0 if is_fresh else max(0.0, self._rules.lease - self.client.run_on_scheduler(uptime))
        desk = Desk(
            self.name, self._shards, self._rules, self._contents, self.client.id, self._linger, quiet
        )
        self.client.register_plugin(desk)
        self.client.register_plugin(KeeperPlugin(self._orders))

    def _stay(self) -> None:
        """Set the fleet up again if the scheduler is a new one. On a thread of its own."""
        while not self._is_closed.wait(self._rules.lease / 5):
            with self._lock, suppress(Exception):  # the scheduler is away, or the client is closed
                found = self.client.run_on_scheduler(look_up, self.name)
                if found is None and not self._is_closed.is_set():
                    report(logging.WARNING, "the scheduler is new: the fleet %r is set up again", self.name)
                    self._install()

    def _check_thread(self) -> None:
        """Raise an error on a thread that would wait for itself: that of the client's event loop, for one."""
        if not may_wait():
            raise WebSocketError(
                f"{self!r} was called by code that interrupts lochws, such as a signal handler or a "
                "finalizer, and would wait there: call it elsewhere"
            )
        _check_thread(repr(self), self.client)

    def _call(self, method: str, *arguments: object) -> Any:
        self._check_thread()
        if self.client.status in {"closing", "closed"}:
            raise WebSocketError(f"the Dask client of the fleet {self.name!r} is closed")
        found, result = self.client.run_on_scheduler(call_desk, self.name, method, *arguments)
        if not found:
            raise WebSocketError(f"the fleet {self.name!r} does not run on the scheduler")
        return result

    def _wait(self, condition: Callable[[FleetStatus], bool], timeout: float | None) -> bool:
        return _until(lambda: condition(self.status()), timeout)

    def _close_cluster(self) -> None:
        if self._own_cluster is not None:
            self.client.close()
            self._own_cluster.close()


def _check_names(method: str, names: Collection[str], known: Collection[str]) -> None:
    if not names:
        raise ValueError(f"{method}: expected at least one worker's name, from {list(known)}")
    for name in names:
        if name not in known:
            raise ValueError(
                f"{method}: {name!r} is not a worker of this fleet: expected one of {list(known)}"
            )


def _alone(method: str, names: Iterable[str]) -> str:
    return (
        f"{method}: no other worker could take the shards of {', '.join(map(repr, names))}: start or resume "
        "another worker first, or close the fleet"
    )


def _check_thread(what: str, client: Client) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:  # there is none on this thread
        return
    if running is getattr(client.loop, "asyncio_loop", None):
        raise RuntimeError(
            f"{what} was called on the event loop of its Dask client, by a coroutine or a topic's handler: "
            "call it in another thread, for example with asyncio.to_thread"
        )


def _until(condition: Callable[[], bool], timeout: float | None) -> bool:
    """Check a condition, less and less often, until it holds. Return False if the timeout expires first."""
    end = None if timeout is None else monotonic() + timeout
    pause = 0.02
    while not condition():
        left = _left(end)
        if left is not None and left <= 0:
            return False
        threading.Event().wait(pause if left is None else min(pause, left))
        pause = min(0.5, pause * 1.5)
    return True


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - monotonic())


def _is_back(address: str, count: int) -> Callable[[FleetStatus], bool]:
    """Return a condition: there are `count` workers or more, none of them at `address`."""
    def is_back(status: FleetStatus) -> bool:
        return len(status.workers) >= count and address not in {each.address for each in status.workers}

    return is_back


def _as_lease(lease: float | None) -> float:
    setting = "distributed.scheduler.locks.lease-timeout"
    seconds = float(parse_timedelta(dask.config.get(setting), "s")) if lease is None else lease
    check_number("lease" if lease is not None else setting, seconds, 1.0, "at least 1 second")
    if isinf(seconds):
        raise ValueError(f"lease: {setting} is infinite: expected a number of seconds")
    return float(seconds)


def _check_client(client: Client | None) -> None:
    if client is None:
        return
    if not isinstance(client, Client):
        raise TypeError(f"client={client!r}: expected a distributed.Client, or None")
    _check_thread("Fleet()", client)
    if client.status != "running":
        raise ValueError(f"client={client!r}: it is {client.status}, not running")


def _check_function(name: str, function: object, count: int) -> None:
    expected = "one argument" if count == 1 else "a source and a Threads"
    if not callable(function):
        raise TypeError(f"{name}={function!r}: expected a function of {expected}")
    check_takes(name, function, count)
    try:
        dumps(function)
    except Exception as error:
        raise TypeError(f"{name}={function!r} cannot be pickled for the workers: {error}") from error


def _checked(
    name: str, given: Mapping[str, Any] | None, check: Callable[[str, Any], None]
) -> dict[str, Any]:
    """Return a mapping from names of workers, after a check of each value."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name}={given!r}: expected a mapping from names of workers, or None")
    for worker, value in (given or {}).items():
        if not isinstance(worker, str):
            raise TypeError(f"{name}: {worker!r} is not the name of a worker: expected a str")
        check(f"{name}[{worker!r}]", value)
    return dict(given or {})
