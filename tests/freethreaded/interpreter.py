"""A free-threaded CPython: found, or built from Debian's source package."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
#: Everything that is built or installed goes here, outside version control.
CACHE = Path(os.environ.get("FREE_THREADED_CACHE") or _ROOT / ".freethreaded").absolute()

#: The source package and the release of Debian that has it.
SOURCE, RELEASE = "python3.13", "trixie"
#: CPython's lists of its own known races: in its source, and in the folder of the Python that was built.
SUPPRESSIONS = "suppressions_free_threading.txt"
#: What CPython needs to build the modules that lochws and its tests import.
NEEDED = ("build-essential", "libssl-dev", "zlib1g-dev", "libffi-dev", "libsqlite3-dev", "xz-utils")

_ASKS = "import sys, sysconfig; sys.exit(not sysconfig.get_config_var('Py_GIL_DISABLED'))"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def find_or_build(sanitize: bool = False) -> str:
    """Return the path of a free-threaded Python.

    It is the one that ``FREE_THREADED_PYTHON`` names, one found on the path or in pyenv, or one built here,
    which takes about six minutes on two cores.

    Args:
        sanitize: whether it must report data races (ThreadSanitizer). Such a Python is always our own.

    Raises:
        RuntimeError: there is none and none can be built; the message says what is missing.
    """
    named = os.environ.get("FREE_THREADED_PYTHON")
    if named and not sanitize:
        if not is_free_threaded(named):
            raise RuntimeError(f"FREE_THREADED_PYTHON={named!r} is not a free-threaded Python")
        return named
    prefix = CACHE / ("sanitized" if sanitize else "python")
    ours = prefix / "bin" / f"{SOURCE}t"
    for candidate in (str(ours),) if sanitize else (*_candidates(), str(ours)):
        if is_free_threaded(candidate):
            return candidate
    _build(prefix, ("--with-thread-sanitizer",) if sanitize else ())
    return str(ours)


def is_free_threaded(python: str) -> bool:
    """Return whether that program is a Python built without a GIL."""
    try:
        return subprocess.run([python, "-c", _ASKS], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _candidates() -> Iterator[str]:
    for minor in (15, 14, 13):
        if (found := shutil.which(f"python3.{minor}t")) is not None:
            yield found
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from map(str, sorted(kept.glob("3.*t/bin/python"), reverse=True))


def _build(prefix: Path, options: tuple[str, ...]) -> None:
    if shutil.which("apt-get") is None:
        raise RuntimeError(
            "there is no free-threaded Python here, and none can be built without apt-get: "
            "set FREE_THREADED_PYTHON to the path of one"
        )
    print(f"building a free-threaded {SOURCE} in {prefix}", flush=True)
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    _call(*as_root, "apt-get", "-q", "install", "-y", "--no-install-recommends", *NEEDED)
    archive = _download()
    work = prefix.with_name(f"{prefix.name}-build")
    shutil.rmtree(work, ignore_errors=True)
    with tarfile.open(archive) as source:
        source.extractall(work, filter="tar")  # apt has checked its signature
    (folder,) = work.iterdir()
    options = (f"--prefix={prefix}", "--disable-test-modules", *options)
    _call("./configure", "-q", "--disable-gil", *options, cwd=folder)
    _call("make", "-s", f"-j{os.cpu_count()}", cwd=folder)
    _call("make", "-s", "altinstall", cwd=folder)
    shutil.copy(folder / "Tools" / "tsan" / SUPPRESSIONS, prefix)
    shutil.rmtree(work)


def _download() -> Path:
    """Have apt download the source and check its signature, without changing what this machine uses."""
    lists, files = CACHE / "apt" / "lists", CACHE / "apt" / "files"
    for folder in (lists / "partial", files / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    sources = CACHE / "apt" / "sources.list"
    sources.write_text(f"deb-src [signed-by={_KEYRING}] http://deb.debian.org/debian {RELEASE} main\n")
    options = [
        f"-oDir::Etc::sourcelist={sources}", "-oDir::Etc::sourceparts=-", f"-oDir::State::lists={lists}",
        f"-oDir::Cache={files}",
    ]
    _call("apt-get", *options, "-q", "update", cwd=files)
    _call("apt-get", *options, "-q", "source", "--download-only", SOURCE, cwd=files)
    (archive,) = files.glob("*.orig.tar.xz")
    return archive


def _call(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
