"""``python -m tests.freethreaded``: the tests of everything that threads share, in a Python without a GIL.

Finds or builds a free-threaded CPython, creates a virtual environment with the packages that exist for it,
and builds lochws there. Runs, with the GIL off, the tests of the core, handlers, feeds and the faults, and
the stress test: with the compiled parts, and again in pure Python. Arguments after ``--`` go to pytest.

With ``--tsan``, CPython and the compiled parts are built with ThreadSanitizer instead, and the tests that
drive the compiled parts from several threads must end without a report of a data race in them. This Python
is always built here: on Debian, as root or with sudo, in about ten minutes the first time.

With ``--throughput``, runs `benchmarks.parallel` there instead. Arguments after ``--`` go to it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .interpreter import CACHE, SOURCE, SUPPRESSIONS, find_or_build

ROOT = Path(__file__).parent.parent.parent
STAND_INS = Path(__file__).parent / "stand_ins"

#: What the tests need and what exists for a free-threaded Python. trustme has a stand-in.
PACKAGES = (
    "PySocks", "idna", "h11", "wsproto", "hypothesis", "pytest>=8.2", "pytest-timeout", "prometheus-client",
    "redis", "setuptools", "websocket-client", "websockets",
)
#: What the races need of it: packages in pure Python.
FEW_PACKAGES = (
    "PySocks", "idna", "h11", "wsproto", "hypothesis", "pytest>=8.2", "pytest-timeout", "setuptools",
)
#: The suites in which threads meet.
SUITES = (
    "freethreaded", "protocol", "transport", "connection", "engine", "opening", "life", "dispatch", "app",
    "feed", "handlers", "system", "faults",
)
#: They need msgpack, msgspec, cryptography or gevent, which have no wheels for a free-threaded 3.13.
LEFT_OUT = (
    "tests/faults/test_program.py::TestGevent",
    "tests/app/test_codecs.py", "tests/dispatch/test_routes.py", "tests/handlers/test_codecs.py",
    "tests/transport/test_tls_floods.py", "tests/transport/test_client_tls.py::TestOurCertificate",
)
#: Those that drive the compiled parts.
RACES = ("tests/freethreaded/test_races.py",)


def main() -> int:
    """Run everything. Returns the exit status: 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.freethreaded", description=__doc__)
    parser.add_argument("--tsan", action="store_true", help="look for data races in the compiled parts")
    parser.add_argument("--pure", choices=("0", "1"), help="only with (0) or without (1) the compiled parts")
    parser.add_argument("--throughput", action="store_true", help="measure with and without the GIL instead")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, such as a file")
    given = parser.parse_args()
    try:
        interpreter = find_or_build(given.tsan)
        python = prepare_sanitized(interpreter) if given.tsan else prepare(interpreter)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    if given.throughput:
        command = [python, "-m", "benchmarks.parallel", *given.pytest]
        return subprocess.run(command, cwd=ROOT, check=False).returncode
    if given.tsan:
        options = f"halt_on_error=0 exitcode=66 suppressions={CACHE / 'sanitized' / SUPPRESSIONS}"
        # pytest would hide the reports of tests that pass.
        return run(python, "-m", "pytest", "-q", "-s", *RACES, *given.pytest, TSAN_OPTIONS=options)
    failed = 0
    for pure in (given.pure,) if given.pure else ("0", "1"):
        print(f"== {'pure Python' if pure == '1' else 'compiled'}, without a GIL", flush=True)
        suites = given.pytest or [*(f"tests/{name}" for name in SUITES), *map(_without, LEFT_OUT)]
        # A test that takes too long would end all of them.
        failed += run(python, "-m", "pytest", "-q", "--timeout=900", *suites, LOCHWS_PURE_PYTHON=pure)
        if not given.pytest:
            failed += run(python, "-m", "tests.stress", "--seconds", "20", LOCHWS_PURE_PYTHON=pure)
    return int(failed > 0)


def prepare_sanitized(interpreter: str) -> str:
    """Create a virtual environment of a Python with ThreadSanitizer, and return its Python.

    The packages are installed by the Python that runs this program, since that one takes many times as long.
    """
    folder = CACHE / "sanitized-venv"
    packages = folder / "lib" / f"{SOURCE}t" / "site-packages"
    if not (packages / "pytest").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", "--without-pip", folder], check=True)
        subprocess.run(
            [
                sys.executable, "-m", "pip", "install", "-q", "--target", packages, "--only-binary=:all:",
                "--python-version", SOURCE.removeprefix("python"), "--implementation", "py", "--abi", "none",
                "--platform", "any", *FEW_PACKAGES,
            ],
            check=True,
        )
    build(str(folder / "bin" / "python"))
    return str(folder / "bin" / "python")


def prepare(interpreter: str) -> str:
    """Create a virtual environment of that Python with lochws's compiled parts, and return its Python."""
    folder = CACHE / "venv"
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        # The newest hypothesis has no wheel for 3.13t, and building it takes a Rust compiler.
        install = [python, "-m", "pip", "install", "-q", "--only-binary=hypothesis"]
        subprocess.run([*install, *PACKAGES], check=True)
    build(python)
    return python


def build(python: str) -> None:
    """Build the compiled parts for a Python, and check that they leave its GIL off.

    Raises:
        RuntimeError, subprocess.CalledProcessError: that failed.
    """
    quiet = {**os.environ, "TSAN_OPTIONS": "report_bugs=0"}  # no races of setuptools
    command = [python, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(command, cwd=ROOT, env=quiet, check=True)
    said = subprocess.run(
        [python, "-W", "error", "-c", "import sys, lochws; print(lochws.compiled, sys._is_gil_enabled())"],
        cwd=ROOT, env=quiet, capture_output=True, text=True, check=True,
    )
    if said.stdout.split() != ["True", "False"]:
        raise RuntimeError(f"compiled, with a GIL: {said.stdout}, and it should be: True False")


def _without(tests: str) -> str:
    """Return pytest's option that leaves out a file, or a class in one."""
    return f"--deselect={tests}" if "::" in tests else f"--ignore={tests}"


def run(python: str, *arguments: str, **variables: str) -> int:
    """Run a Python program without a GIL. Returns whether it failed."""
    environment = {
        **os.environ, "PYTHON_GIL": "0", "PYTHONPATH": str(STAND_INS), "TRUSTME_PYTHON": sys.executable,
        **variables,
    }
    return int(subprocess.run([python, *arguments], cwd=ROOT, env=environment, check=False).returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
