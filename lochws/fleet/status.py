"""Reports about a fleet: its workers, its shards, and the sources in quarantine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerStatus:
    """One worker of a fleet, as it last reported.

    Attributes:
        name: its name in the Dask cluster.
        address: its address in the Dask cluster.
        shards: the shards that it owns.
        sources: the sources that it has apps for, without those in quarantine.
        open: the connections that are open.
        connections: the connections that its present apps have opened so far.
        messages_received: the text and binary messages that its present apps have received.
        messages_sent: the text and binary messages that its present apps have sent.
        memory: the memory of its process, in bytes; 0 where the system does not say.
        threads: the threads of its process.
        seen: seconds since its last report.
        is_draining: whether its shards are moving away, because of `Fleet.drain`.
    """

    name: str
    address: str
    shards: int
    sources: int
    open: int
    connections: int
    messages_received: int
    messages_sent: int
    memory: int
    threads: int
    seen: float
    is_draining: bool


@dataclass(frozen=True)
class Quarantined:
    """A source that is not connected, because it kept failing.

    Attributes:
        source: the source's text: the URL, if sources are URLs.
        error: the error of its last attempt.
        worker: the worker that gave up.
        seconds: how long ago that was.
    """

    source: str
    error: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class FleetStatus:
    """The state of a fleet at one moment.

    Attributes:
        sources: the number of sources, those in quarantine included.
        shards: the number of shards that have sources.
        owned: the shards that a worker owns and has started.
        moving: the shards that are moving from one worker to another.
        unplaced: the shards that no worker has room for.
        open: the connections that are open.
        workers: the workers that report, by name.
        quarantined: the sources in quarantine, the latest last.
    """

    sources: int
    shards: int
    owned: int
    moving: int
    unplaced: int
    open: int
    workers: tuple[WorkerStatus, ...]
    quarantined: tuple[Quarantined, ...]
