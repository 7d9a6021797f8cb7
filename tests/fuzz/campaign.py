"""Fuzzing a target in a process of its own: its dictionary, its corpora, and what came of it."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
#: What is kept, a folder for each target.
CORPUS = Path(__file__).with_name("corpus")
#: How the names of kept inputs begin that failed once.
FIXED = "fixed-"
#: Where inputs that fail a target are left.
FINDINGS = CHECKOUT / ".fuzz"
#: Longer inputs say no more and take longer; in bytes.
MAX_INPUT = 2048

_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Place:
    """The place where a process runs.

    Attributes:
        folder: a checkout, or a copy of one.
        variables: what it needs in the environment besides ours.
    """

    folder: Path
    variables: Mapping[str, str]


HERE = Place(CHECKOUT, {})


@dataclass(frozen=True)
class Outcome:
    """The result of a campaign.

    Attributes:
        target: the target.
        inputs: how many inputs were tried.
        coverage: how many edges of the watched code they took; None if that was not measured.
        output: the end of what the fuzzer wrote.
        passed: whether every input passed, and there was at least one.
    """

    target: str
    inputs: int
    coverage: int | None
    output: str
    passed: bool

    def __str__(self) -> str:
        edges = "" if self.coverage is None else f"{self.coverage} edges"
        verdict = "passed" if self.passed else "FAILED"
        return f"{self.target:<10}{self.inputs:>10} inputs{edges:>14}   {verdict}"


def dictionary(target: str) -> str:
    """Return the target's tokens in libFuzzer's format."""
    tokens: list[bytes] = importlib.import_module(f"{__package__}.targets.{target}").TOKENS
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in tokens)


def fuzz(target: str, seconds: int, *, tokens: str, found: Path) -> Outcome:
    """Fuzz a target for that many seconds, beginning with its corpus. May run in several threads.

    Args:
        target: its name.
        seconds: how long; inputs under way are finished.
        tokens: its `dictionary`.
        found: a folder for inputs that took new paths.
    """
    FINDINGS.mkdir(exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=20", "-rss_limit_mb=2048"]
    artifacts = f"-artifact_prefix={FINDINGS}/{target}-"
    with tempfile.NamedTemporaryFile("w", suffix=".dict", encoding="ascii") as file:
        file.write(tokens)
        file.flush()
        folders = [str(found), str(CORPUS / target)]
        status, output = _run("engine", target, *limits, artifacts, f"-dict={file.name}", *folders)
    return _outcome(target, status, output)


def fuzz_blindly(target: str, seconds: int, *, place: Place) -> Outcome:
    """Fuzz a target of a built checkout, without being guided. May run in several threads."""
    FINDINGS.mkdir(exist_ok=True)
    status, output = _run("blind", target, str(seconds), f"{FINDINGS}/{target}-sanitized", place=place)
    return _outcome(target, status, output)


def minimize(target: str, found: Path) -> int:
    """Make the target's corpus anew: few inputs of its own and those found that together take all paths.

    What has once failed stays, by its name: `FIXED` and anything.

    Returns:
        How many inputs it has now.
    """
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder)
        kept = CORPUS / target
        folders = [str(path) for path in (into, kept, found)]
        status, output = _run("engine", target, "-set_cover_merge=1", f"-max_len={MAX_INPUT}", *folders)
        inputs = {path.name[:12]: path.read_bytes() for path in into.iterdir()}
        if status != 0 or not inputs:
            raise RuntimeError(f"the corpus of {target} cannot be minimized:\n{output[-4000:]}")
    for path in kept.iterdir():
        if not path.name.startswith(FIXED):
            path.unlink()
    for name, data in inputs.items():
        (kept / name).write_bytes(data)
    return len(list(kept.iterdir()))


def _outcome(target: str, status: int, output: str) -> Outcome:
    done = _DONE.search(output)
    edges = _COVERAGE.findall(output)
    return Outcome(
        target=target,
        inputs=int(done[1]) if done else 0,
        coverage=int(edges[-1]) if edges else None,
        output=output[-4000:],
        passed=status == 0 and done is not None and int(done[1]) > 0,
    )


def _run(program: str, *arguments: str, place: Place = HERE) -> tuple[int, str]:
    """Run a module of this package. Returns its status and all that it wrote."""
    process = subprocess.run(
        [sys.executable, "-m", f"{__package__}.{program}", *arguments],
        cwd=place.folder, env={**os.environ, **place.variables}, stdin=subprocess.DEVNULL,
        # atheris writes inputs that failed, which need not be UTF-8.
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
    )
    return process.returncode, process.stdout
