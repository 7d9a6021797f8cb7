"""The compiled part under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from .campaign import CHECKOUT, HERE, Place

COMPILER = "gcc"
FLAGS = [
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1",
    "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers", "-shared", "-fPIC",
]
#: The compiled parts, as setup.py has them, each with where its sources are.
EXTENSIONS = {
    "lochws/protocol/_compiled": "lochws/protocol/_[!i]*.c",
    "lochws/protocol/_inflating": "lochws/protocol/_inflating.c",
    "lochws/system/_calls": "lochws/system/_*.c",
    "lochws/connection/_small": "lochws/connection/_*.c",
    "lochws/transport/_records": "lochws/transport/_records.c",
}
#: What runs the compiled part on known inputs: its twins' tests, those of their users, and the corpus.
TESTS = [
    "tests/protocol/test_scanning.py", "tests/protocol/test_framing.py", "tests/protocol/test_receiver.py",
    "tests/protocol/test_sender.py", "tests/protocol/test_violations.py", "tests/protocol/test_limits.py",
    "tests/protocol/test_payload.py", "tests/protocol/test_pump.py", "tests/system/test_syscalls.py",
    "tests/system/test_waiting.py", "tests/engine/test_turn.py", "tests/dispatch/test_dispatching.py",
    "tests/fuzz/test_corpus.py", "tests/fuzz/test_connection.py", "tests/protocol/test_utf8.py",
    "tests/protocol/test_large_text.py", "tests/protocol/test_deflate.py",
    "tests/connection/test_small_sends.py", "tests/connection/test_ready.py",
    "tests/transport/test_receiving.py",
]
#: What measures memory, of which the sanitizers need a multiple.
LEFT_OUT = [
    "--deselect",
    "tests/protocol/test_large_text.py::test_32_mib_with_an_emoji_take_their_str_and_little_more",
]


def build(folder: Path) -> Place:
    """Copy what is tested into a new folder, with a compiled part that watches itself.

    Returns:
        Where, and with which variables, a Python must be started to run with it.

    Raises:
        RuntimeError: there is no compiler with sanitizers, or it refuses the code.
    """
    leave_out = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    for name in ("lochws", "tests"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=leave_out)
    for name in ("conftest.py", "pytest_lochws.py", "setup.cfg"):
        shutil.copy(CHECKOUT / name, folder)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    include = f"-I{sysconfig.get_path('include')}"
    left = set(folder.rglob("*.c"))
    for name, where in EXTENSIONS.items():
        sources = sorted(folder.glob(where))
        target = f"{folder / name}{suffix}"
        _checked([COMPILER, *FLAGS, include, *map(str, sources), "-o", target, "-lz"])
        left -= set(sources)
    if left:
        raise RuntimeError(f"EXTENSIONS does not say what these belong to: {sorted(map(str, left))}")
    runtime = _checked([COMPILER, "-print-file-name=libasan.so"]).strip()
    if not Path(runtime).is_absolute():
        raise RuntimeError(f"{COMPILER} has no AddressSanitizer")
    variables = {
        # Python itself was built without it, so the runtime must be there before anything else is.
        "LD_PRELOAD": runtime,
        # Else a read behind the end of an object would still be inside Python's own arena.
        "PYTHONMALLOC": "malloc",
        # Python frees little of what it has when it exits.
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": str(folder),
    }
    return Place(folder, variables)


def run_tests(place: Place) -> str:
    """Run `TESTS` with what `build` has built.

    Returns:
        What pytest says in the end.

    Raises:
        RuntimeError: a test failed or was skipped, or a sanitizer has found something.
    """
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-skips", "--timeout=120"]
    return _checked([*pytest, *LEFT_OUT, *TESTS], place).strip().splitlines()[-1]


def _checked(command: list[str], place: Place = HERE) -> str:
    """Run a command and return its output.

    Raises:
        RuntimeError: it failed, or could not be started.
    """
    try:
        process = subprocess.run(
            command, cwd=place.folder, env={**os.environ, **place.variables}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is missing") from error
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{process.stdout[-6000:]}")
    return process.stdout
