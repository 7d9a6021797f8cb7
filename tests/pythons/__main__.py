"""``python -m tests.pythons``: the core of the suite on the oldest and the newest Python, part of it on 3.14.

Each Python gets a clone of the last commit and a virtual environment with the extra ``test``, builds the
compiled parts, and runs the tests in `VERSIONS`. A version that is neither in pyenv nor on the path comes
from Debian, in a folder of its own outside version control; that needs root and debootstrap (see `debian`).
Arguments after ``--`` go to pytest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from ..support.interpreters import find
from . import debian

ROOT = Path(__file__).parent.parent.parent
#: The tests that depend on the version most: locks, threads, interpreters, compiled parts.
BRIEF = ("protocol", "system", "app/test_interpreters.py")
#: The parts whose tests need no other programs.
CORE = (*BRIEF, "dispatch", "connection", "engine", "life", "opening")
#: The oldest and the newest version that lochws supports, and the one whose locks differ from those before.
VERSIONS = {"3.10": CORE, "3.14": BRIEF, "3.15": CORE}


def main() -> int:
    """Run the tests on each version. Return the exit status: 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("--python", nargs="+", default=tuple(VERSIONS), help="versions, such as 3.12")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest instead of the core, such as a file")
    given = parser.parse_args()
    failed = [version for version in given.python if not passes(version, given.pytest)]
    if failed:
        print(f"failed on Python {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def passes(version: str, arguments: list[str]) -> bool:
    """Return whether the tests pass on a version of Python."""
    print(f"== Python {version}", flush=True)
    tests = arguments or [f"tests/{part}" for part in VERSIONS.get(version, CORE)]
    python = find(version)
    if python is None:
        return debian.run(version, _script(f"python{version}", tests)) == 0
    with tempfile.TemporaryDirectory(prefix="lochws-python-") as folder:
        subprocess.run(["git", "clone", "-q", ROOT, f"{folder}/lochws"], check=True)
        return subprocess.run(["sh", "-ec", _script(python, tests)], cwd=folder, check=False).returncode == 0


def _script(python: str, tests: list[str]) -> str:
    """Return the commands for a folder that has a clone named ``lochws``."""
    return f"""
        '{python}' -m venv venv
        cd lochws
        ../venv/bin/pip install -q -e '.[test]'
        ../venv/bin/python -c 'import sys, lochws; print(sys.version, "compiled:", lochws.compiled)'
        ../venv/bin/python -m pytest -q -p no:cacheprovider {' '.join(tests)}
    """


if __name__ == "__main__":
    sys.exit(main())
