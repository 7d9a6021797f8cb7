"""Compiled parts: which are used, and that the environment can ask for Python alone."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

from lochws.protocol import compiled as protocol_twins
from lochws.system import compiled, syscalls
from lochws.system.compiled import choose, load, parts_in_use

SETUP = Path(__file__).parent.parent.parent / "setup.py"
PROGRAM = """
import json
from lochws.protocol import frames, payload, pump, scanning
from lochws.system import compiled, syscalls
used = [scanning.scan, frames.build_frame, frames.measure, frames.pack, payload._Payload, pump._Pump,
        syscalls.send, syscalls.receive_into]
print(json.dumps([compiled.parts_in_use(), sorted(one.__name__ for one in used)]))
"""


def run(pure: str) -> tuple[dict[str, bool], list[str]]:
    environment = {**os.environ, "LOCHWS_PURE_PYTHON": pure}
    parts, names = json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment))
    return parts, names


def test_with_the_variable_every_twin_is_the_one_in_python() -> None:
    parts, names = run("1")
    assert not any(parts.values())
    assert names == [
        "PayloadPython", "PumpPython", "build_frame_python", "measure_python", "pack_python",
        "receive_into_python", "scan_python", "send_python",
    ]


@pytest.mark.skipif(
    protocol_twins.twins is None or syscalls.twins is None, reason="built without a compiler"
)
def test_without_it_every_twin_is_the_compiled_one() -> None:
    parts, names = run("")
    others = {"system calls": True, "small messages": True, "TLS records": True}
    assert parts == {"protocol": True, "inflating": load("inflating") is not None, **others}
    assert names == ["Payload", "Pump", "build_frame", "measure", "pack", "receive_into", "scan", "send"]


def test_a_part_that_was_not_built_is_none_and_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lochws.protocol._compiled", None)
    assert load("protocol") is None
    assert not parts_in_use()["protocol"]


def test_the_system_calls_are_a_compiled_part_only_where_there_is_a_gil_to_hold() -> None:
    is_built_here = os.name == "posix" and not sysconfig.get_config_var("Py_GIL_DISABLED")
    assert ("system calls" in parts_in_use()) is is_built_here


@pytest.mark.parametrize(
    ("system", "implementation", "has_gil", "parts"),
    [
        ("posix", "cpython", True,
         {"protocol", "inflating", "system calls", "small messages", "TLS records"}),
        ("posix", "cpython", False, {"protocol"}),
        ("nt", "cpython", True, {"protocol"}),
        ("posix", "pypy", True, set()),
    ],
)
def test_what_setup_builds_on_another_platform_is_what_is_expected_there(
    system: str, implementation: str, has_gil: bool, parts: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def setup(*, ext_modules: list[str]) -> None:
        built.extend(ext_modules)

    stand_in = SimpleNamespace(Extension=lambda name, sources, **_: name, setup=setup)
    monkeypatch.setitem(sys.modules, "setuptools", stand_in)  # type: ignore[arg-type]  # runs no build
    monkeypatch.delenv("LOCHWS_PURE_PYTHON", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: name == "Py_GIL_DISABLED" and not has_gil)
    monkeypatch.setattr(sys, "abiflags", "" if has_gil else "t")
    monkeypatch.setattr(sys.implementation, "name", implementation)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        runpy.run_path(str(SETUP))
        expected = set(parts_in_use())
    assert expected == parts
    names = {part: name for part, (_, name) in compiled._PARTS.items()}
    assert {name.rpartition(".")[2] for name in built} == {names[part] for part in parts}


def test_a_function_that_a_part_lacks_on_this_system_is_the_one_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "is_pure_python", lambda: False)
    part = SimpleNamespace(send="compiled")
    assert choose(part, "send", "python") == "compiled"  # type: ignore[arg-type]  # any object with attributes does
    assert choose(part, "random_bytes", "python") == "python"  # type: ignore[arg-type]  # as above
    assert choose(None, "send", "python") == "python"
