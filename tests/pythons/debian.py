"""Python from Debian's next release, in a folder with a system of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
#: The versions that share a system. Any other one gets a system of its own.
TOGETHER = ("3.14", "3.15")
#: Outside version control. A system that is there is used again.
CACHE = ROOT / ".pythons"
RELEASE, MIRROR = "forky", "http://deb.debian.org/debian"
#: What the virtual environment and the tests need, besides Python itself.
NEEDED = ("gcc", "git", "libc6-dev", "openssl", "zlib1g-dev")
#: Files of this machine without which nothing can be downloaded there.
_SHARED = ("resolv.conf", "hosts", "pip.conf", "ssl/certs/ca-certificates.crt")


def run(version: str, script: str) -> int:
    """Run a shell script in that system, in a folder with a clone of the last commit. Return its exit status.

    Raises:
        RuntimeError: the system cannot be made here; the message says why.
    """
    system = _system(version)
    work = system / "work"
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run(["git", "clone", "-q", ROOT, work / "lochws"], check=True)
    # The mounts are in a namespace of their own, which ends with the command.
    mounts = (
        'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" && '
        'exec chroot "$0" sh -ec "cd /work; $1"'
    )
    return subprocess.run(
        ["unshare", "--mount", "--fork", "sh", "-c", mounts, str(system), script], check=False
    ).returncode


def _system(version: str) -> Path:
    """Return the folder of a system that has this Python, which is made first if necessary."""
    versions = TOGETHER if version in TOGETHER else (version,)
    system = CACHE / "-".join((RELEASE, *versions))
    done = system / "done"
    if done.exists():
        return system
    for program in ("debootstrap", "unshare"):
        if shutil.which(program) is None:
            raise RuntimeError(f"Python {version} is not here, and making it takes {program}")
    if os.geteuid() != 0:
        raise RuntimeError(f"Python {version} is not here, and debootstrap needs root")
    shutil.rmtree(system, ignore_errors=True)
    system.parent.mkdir(exist_ok=True)
    # Every suite is installed by the same script, but this machine's debootstrap may not know the newest.
    known = Path("/usr/share/debootstrap/scripts", RELEASE)
    pythons = (f"python{version}{package}" for version in versions for package in ("", "-dev", "-venv"))
    packages = ",".join(("ca-certificates", *pythons, *NEEDED))
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(system), MIRROR]
    subprocess.run(command if known.exists() else [*command, str(known.with_name("sid"))], check=True)
    for name in _SHARED:
        file = Path("/etc", name)
        if file.exists():
            shutil.copy(file.resolve(), system / "etc" / name)
    done.touch()
    return system
