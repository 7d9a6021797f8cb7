"""``python -m tests.packaging``: what users install, built and used with each Python.

The source distribution is built, looked into, and checked as PyPI will. From it each Python builds a
wheel twice, once where no compiler is found. Each wheel is looked into and installed into a new virtual
environment, where `installed.py` uses it far from the checkout. Needs the extra ``dev``, and each Python
as ``python3.N`` or in pyenv.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..support.interpreters import PYENV, find

ROOT = Path(__file__).parent.parent.parent
PROGRAM = Path(__file__).with_name("installed.py")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")

#: What must not get in the way of what is installed.
_UNWANTED = ("PYTHONPATH", "VIRTUAL_ENV", "LOCHWS_PURE_PYTHON", "CC")


def main() -> int:
    """Build and try everything. Returns the exit status: 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__)
    parser.add_argument("--python", nargs="+", default=VERSIONS, help="versions to try, as 3.12")
    pythons = {version: interpreter(version) for version in parser.parse_args().python}
    with tempfile.TemporaryDirectory(prefix="lochws-packaging-") as directory:
        work = Path(directory)
        sdist = build_sdist(work)
        print(f"{sdist.name}: complete, and fit for PyPI")
        with ThreadPoolExecutor(os.cpu_count()) as executor:
            tried = [
                executor.submit(try_wheel, sdist, python, work / f"{version}-{kind}", compiler)
                for version, python in pythons.items()
                for kind, compiler in (("compiled", True), ("pure", False))
            ]
            failed = 0
            for trial in tried:
                try:
                    print(trial.result(), flush=True)
                except AssertionError as error:
                    failed += 1
                    print(f"FAILED: {error}", flush=True)
    return int(failed > 0)


def interpreter(version: str) -> str:
    """Return the path of a Python of that version: pyenv's newest, or the one on PATH."""
    path = find(version)
    if path is None:
        raise SystemExit(f"Python {version} is neither in {PYENV} nor on the path")
    return path


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """Run a command and return what it printed.

    Raises:
        AssertionError: it failed; the message has what it printed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    ran = subprocess.run(
        command, cwd=cwd, env={**environment, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=300, check=False,
    )
    assert ran.returncode == 0, f"{' '.join(map(str, command))}:\n{ran.stdout}"
    return ran.stdout


def build_sdist(work: Path) -> Path:
    """Build the source distribution of what is committed, and look into it."""
    source = work / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=work)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", work, source, cwd=work)
    (sdist,) = work.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    committed = set(run("git", "ls-files", cwd=source).splitlines())
    missing = {name for name in committed if not name.startswith(".") and name not in names}
    assert not missing, f"the source distribution lacks {sorted(missing)}"
    own = {"PKG-INFO", "setup.cfg"}
    more = {name for name in names - committed - own if "." in name and ".egg-info" not in name}
    assert not more, f"the source distribution has {sorted(more)}, which nobody committed"
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, cwd=work).strip())
    return sdist


def try_wheel(sdist: Path, python: str, work: Path, compiler: bool) -> str:
    """Build a wheel with a Python, install it into a new virtual environment and use it there.

    Raises:
        AssertionError: something failed.
    """
    work.mkdir()
    none = {} if compiler else {"CC": str(work / "no-compiler")}
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work, sdist, cwd=work, **none)
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    compiled = sorted(Path(name).name.partition(".")[0] for name in names if name.endswith((".so", ".pyd")))
    parts = ["_calls", "_compiled", "_inflating", "_records", "_small"]
    assert compiled == (parts if compiler else []), f"{wheel}: {compiled}"
    assert "lochws/py.typed" in names, f"{wheel} says nothing of types"
    stray = [name for name in names if not name.startswith(("lochws/", "lochws-", "pytest_lochws.py"))]
    assert not stray, f"{wheel} has {stray}, which would lie beside other people's packages"
    run(python, "-m", "venv", work / "venv", cwd=work)
    installed = work / "venv" / "bin" / "python"
    run(installed, "-m", "pip", "install", "--quiet", wheel, cwd=work)
    run(installed, "-m", "pip", "check", cwd=work)
    said = run(installed, "-W", "error", PROGRAM, "compiled" if compiler else "pure", cwd=work)
    return f"{wheel.name}, {'with' if compiler else 'without'} a compiler: {said.strip()}"


if __name__ == "__main__":
    sys.exit(main())
