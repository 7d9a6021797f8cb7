"""One target under atheris: ``python -m tests.fuzz.engine TARGET [libFuzzer's arguments]``."""

from __future__ import annotations

import importlib
import shlex
import sys

import atheris

#: What is watched for new paths. The rest of lochws has nothing that these inputs reach.
WATCHED = ["lochws.protocol", "lochws.response", "lochws.opening", "lochws.url", "lochws.life.backoff"]


def main() -> None:
    """Fuzz until libFuzzer's arguments say that it is enough; does not return."""
    name = sys.argv.pop(1)
    # To merge corpora libFuzzer starts itself anew, by the shell.
    sys.argv[0] = f"{shlex.quote(sys.executable)} -m {__spec__.name} {name}"
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=WATCHED):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup(sys.argv, target.TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
