"""Run cells in a kernel, as a notebook does: ``python notebook.py < CELLS.json``.

Reads a list of cells. Prints for each a list of what it printed and of the name of its exception, or None,
as JSON. A cell that would run forever is interrupted once it has printed something. Run it in an environment
that has ipykernel.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from jupyter_client.manager import start_new_kernel

PATIENCE = 60
#: A cell with this comment ends when the kernel is interrupted.
FOREVER = "interrupt the kernel"


def main() -> None:
    """Run the cells."""
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=PATIENCE)
    assert manager.provisioner is not None
    kernel: int = manager.provisioner.pid  # a local one has it
    results: list[tuple[str, str | None]] = []
    try:
        for cell in json.load(sys.stdin):
            printed: list[str] = []

            def note(message: dict[str, Any], cell: str = cell, printed: list[str] = printed) -> None:
                if message["msg_type"] == "stream":
                    if FOREVER in cell and not printed:
                        os.kill(kernel, signal.SIGINT)
                    printed.append(message["content"]["text"])

            reply = client.execute_interactive(cell, output_hook=note, timeout=PATIENCE)
            results.append(("".join(printed), reply["content"].get("ename")))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
