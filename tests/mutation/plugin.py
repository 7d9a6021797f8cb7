"""Makes hypothesis fit for mutmut, which runs the tests many times in one process: the same examples each time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutation", derandomize=True, database=None, deadline=None, max_examples=30,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutation")
