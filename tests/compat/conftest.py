"""Fixtures: both modules under the same tests."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(params=["lochws.compat.websocket", "websocket"], ids=["drop-in", "original"])
def websocket(request: pytest.FixtureRequest) -> ModuleType:
    """The drop-in, then the original: what a test says is true of both."""
    return importlib.import_module(request.param)
