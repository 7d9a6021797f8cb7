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
    assert "\n1,000 devices on 5 threads\n" in output
    assert "\n1,000 devices came back" in output
    assert output.endswith("closed: 1000\n")
    last = re.findall(r"online +([\d,]+)  commands +([\d,]+)  telemetry +([\d,]+)", output)[-1]
    online, commands, telemetry = (int(number.replace(",", "")) for number in last)
    assert online == 1000
    assert commands >= 2000
    assert commands - telemetry <= 1000, "a command is answered unless the connection was lost meanwhile"
    bars = [int(count) for count in re.findall(r"^ +[\d.]+ s +(\d+) █*$", output, re.MULTILINE)]
    assert len(bars) == 12
    assert sum(bars) == 1000
    waits = re.search("^their first waits were (.*) to (.*) s$", output, re.MULTILINE)
    assert waits
    assert float(waits[1]) <= 0.3
    assert float(waits[2]) >= 1.0
