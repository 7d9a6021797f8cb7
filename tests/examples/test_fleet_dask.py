"""examples/fleet_dask.py: two workers share the sources, then one of them has them all."""

from __future__ import annotations

import pytest

from .running import errors_of, run


@pytest.mark.timeout(180)
def test_two_workers_share_the_sources_until_one_is_drained() -> None:
    process = run("fleet_dask.py", timeout=170)
    assert process.returncode == 0, process.stderr
    assert not errors_of(process)
    first, drained, second, _ = process.stdout.splitlines()
    assert first == "100 sources on 2 workers"
    assert drained == "drained: True"
    assert second == "100 sources on 1 workers"
