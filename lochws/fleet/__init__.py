"""Fleets: any number of connections, spread over the workers of a Dask cluster.

Requires Dask's package distributed: ``pip install 'lochws[fleet]'``.
"""

from .fleet import Fleet
from .hashing import stable_text
from .metrics import FleetCollector
from .status import FleetStatus, Quarantined, WorkerStatus
from .worker_plugin import current_worker

__all__ = [
    "Fleet",
    "FleetCollector",
    "FleetStatus",
    "Quarantined",
    "WorkerStatus",
    "current_worker",
    "stable_text",
]
