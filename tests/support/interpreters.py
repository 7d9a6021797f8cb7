"""The paths of the Pythons on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: The folder in which pyenv keeps its Pythons.
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def find(version: str) -> str | None:
    """Return the path of a Python of a version such as 3.12: pyenv's newest, or the one on the path."""
    found = {int(path.name.rpartition(".")[2]): path for path in PYENV.glob(f"{version}.[0-9]*")}
    return str(found[max(found)] / "bin" / "python") if found else shutil.which(f"python{version}")
