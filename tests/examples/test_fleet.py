"""examples/fleet.py: a thousand connections on a handful of threads, through a restart of the server."""

from __future__ import annotations

import re
import sys

import pytest

from .running import run


@pytest.mark.timeout(120)  # a thousand connections twice: five seconds of processor time
@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of descriptors to be raised")
def test_a_thousand_devices_come_back_after_a_restart_at_random_times() -> None:
    process = run("fleet.py", "1000", timeout=110, through=["sh", "-c", 'ulimit -Sn 256; exec "$0" "$@"'])
    assert process.returncode == 0, process.stdout + process.stderr
    assert not process.stderr
    output = process.stdout
    before, found, after = output.partition("\n1,000 devices on 5 threads\n")
    assert found, output
    assert before.splitlines()[-1].startswith("online 1,000 ")
    online, telemetry = re.findall(r"online +([\d,]+)  telemetry +([\d,]+)", after)[-1]
    assert online == "1,000"
    assert int(telemetry.replace(",", "")) >= 100
    waits = re.search("^back after: a quarter (.*) s, half .* s, three quarters (.*) s$", after, re.MULTILINE)
    assert waits
    # How far they are apart depends on the machine: after a stall, all that are due come back at once.
    assert float(waits[1]) < float(waits[2]), "they came back together"
    assert output.endswith("closed: 1000\n")
