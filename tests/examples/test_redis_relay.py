"""examples/redis_relay.py, with a redis-server of its own and with an existing one."""

from __future__ import annotations

import shutil

import pytest

from ..support.redis_server import RedisServer
from .running import run


def check(*arguments: str) -> None:
    """Run it, and check that the reader has read what the relay received, in order."""
    process = run("redis_relay.py", *arguments)
    assert process.returncode == 0, process.stderr
    assert not process.stderr
    counts, *lines = process.stdout.splitlines()
    assert counts == "RelayCounts(received=12, relayed=12, waiting=0, dropped=0, failures=0)"
    assert [line.partition(":")[0] for line in lines] == [
        f"connection 1, event {number}" for number in range(1, 13)
    ]
    assert "ticker" in lines[5]
    assert lines[-1].endswith("disconnected ")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_it_starts_its_own_redis() -> None:
    check()


def test_it_accepts_the_url_of_a_redis(redis: RedisServer) -> None:
    check("--redis", redis.url)
    assert len(redis.entries("lochws:prices")) == 12
