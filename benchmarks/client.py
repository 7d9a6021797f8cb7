"""One client in a process of its own.

``python -m benchmarks.client JOB`` prints what it measured, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

from .clients import CLIENTS
from .crowd_server import raise_descriptor_limit
from .job import Job


def main() -> None:
    """Do the job of the command line."""
    job = Job.from_text(sys.argv[1])
    job.pin(job.client_core)
    raise_descriptor_limit()
    module = importlib.import_module(f"benchmarks.clients.{CLIENTS[job.client].module}")
    client = module.Client(job)
    getattr(client, job.work.kind)()
    print(json.dumps(client.meter.result()), flush=True)
    os._exit(0)  # nothing else of this process matters, least of all thousands of connections


if __name__ == "__main__":
    main()
