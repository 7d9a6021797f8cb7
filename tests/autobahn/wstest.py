"""Autobahn's `wstest`: finding it, or installing it with Python 2.7."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

#: Everything that is installed or reported goes here, outside version control.
CACHE = Path(__file__).resolve().parents[2] / ".autobahn"

#: The last release whose dependencies can still be installed together.
RELEASE = "autobahntestsuite==0.8.2"

_INSTALL_SECONDS = 600
_START_SECONDS = 60


def find_or_install() -> str:
    """Return a working `wstest`: the one named by WSTEST, the one on PATH, or one of our own.

    Raises:
        RuntimeError: there is none and none can be made; the message says what is missing.
    """
    named = os.environ.get("WSTEST")
    if named:
        if not _runs(named, "--help"):
            raise RuntimeError(f"WSTEST={named!r} does not run")
        return named
    ours = CACHE / "python2.7" / "bin" / "wstest"
    for candidate in (shutil.which("wstest"), str(ours)):
        if candidate and _runs(candidate, "--help"):
            return candidate
    _install(ours.parents[1])
    return str(ours)


def _install(folder: Path) -> None:
    """Make a virtual environment of Python 2.7 in `folder`, with Autobahn in it."""
    python = next(filter(_is_python_2_7, _candidates()), None)
    if python is None:
        raise RuntimeError(
            "Autobahn's test suite needs Python 2.7, and there is none on PATH or from pyenv: "
            "`pyenv install 2.7.18`, or name a wstest by the variable WSTEST"
        )
    print(f"installing {RELEASE} with {python} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)  # an installation that was broken off
    tools = folder.with_name("virtualenv")
    _call(python, "-m", "pip", "install", "-q", "--upgrade", "--target", str(tools), "virtualenv")
    _call(python, "-m", "virtualenv", "-q", str(folder), path=tools)
    _call(str(folder / "bin" / "python"), "-m", "pip", "install", "-q", RELEASE)


def _candidates() -> Iterator[str]:
    for name in ("python2.7", "python2"):
        on_path = shutil.which(name)
        if on_path:
            yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True))


def _is_python_2_7(python: str) -> bool:
    # pyenv puts a python2.7 on PATH that only tells which versions are off: existing is not enough.
    return _runs(python, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))")


def _runs(*command: str) -> bool:
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _call(*command: str, path: Path | None = None) -> None:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    ended = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, text=True, timeout=_INSTALL_SECONDS, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    if ended.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{ended.stdout}")
