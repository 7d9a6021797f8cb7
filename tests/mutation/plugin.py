"""A pytest plugin for mutmut: hypothesis always takes the same examples."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutation", derandomize=True, database=None, deadline=None, max_examples=30,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutation")
