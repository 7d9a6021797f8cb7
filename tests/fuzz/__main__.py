"""Command line of the fuzzer: ``python -m tests.fuzz``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from . import campaign, sanitize
from .targets import COMPILED, TARGETS

DESCRIPTION = """\
Try inputs on all that parses, guided by the paths that they take, and say which promise was broken.
Exits 1 if one was; the input is then left in .fuzz/ of this checkout. A copy of it in tests/fuzz/corpus/
is tried in every run of the tests from then on.
"""

SHORT_SECONDS = 15


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse(arguments)
    began = monotonic()
    if options.replay:
        return replay(options.targets, options.replay)
    if options.lives:
        from .test_connection import live

        live(options.lives)
        print(f"{options.lives} lives of a connection, {monotonic() - began:.0f} s")
        return 0
    if not options.sanitize and importlib.util.find_spec("atheris") is None:
        print("error: atheris is missing; it comes with the extra `fuzz`", file=sys.stderr)
        return 2
    try:
        outcomes = run_sanitized(options) if options.sanitize else run(options)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for outcome in outcomes:
        if not outcome.passed:
            print(f"\n{outcome.target}:\n{outcome.output}")
    print()
    for outcome in outcomes:
        print(outcome)
    how = "address and undefined-behaviour sanitizers, " if options.sanitize else ""
    total = sum(outcome.inputs for outcome in outcomes)
    print(f"{total} inputs, {how}{monotonic() - began:.0f} s")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def run(options: argparse.Namespace) -> list[campaign.Outcome]:
    """Fuzz the targets, a few at a time.

    Raises:
        RuntimeError: a corpus could not be minimized.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        found = {target: Path(folder) / target for target in options.targets}
        running = []
        for target, path in found.items():
            path.mkdir()
            tokens = campaign.dictionary(target)
            running.append(pool.submit(campaign.fuzz, target, options.seconds, tokens=tokens, found=path))
        outcomes = [one.result() for one in running]
        for target, path in found.items() if options.keep else ():
            print(f"corpus of {target}: {campaign.minimize(target, path)} inputs")
        return outcomes


def run_sanitized(options: argparse.Namespace) -> list[campaign.Outcome]:
    """Test and fuzz a compiled part that watches its own memory.

    Raises:
        RuntimeError: a tool is missing, or a test failed.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        place = sanitize.build(Path(folder) / "sanitized")
        print(f"its tests: {sanitize.run_tests(place)}", flush=True)
        running = [
            pool.submit(campaign.fuzz_blindly, target, options.seconds, place=place)
            for target in options.targets if target in COMPILED
        ]
        return [one.result() for one in running]


def replay(targets: list[str], path: Path) -> int:
    """Try one input on the targets, in this process; what it raises is shown."""
    for target in targets:
        importlib.import_module(f"{__package__}.targets.{target}").TestOneInput(path.read_bytes())
        print(f"{target}: passed")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        "python -m tests.fuzz", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--seconds", type=int, default=60, metavar="N",
                          help="time for each target; default: 60")
    how_long.add_argument("--short", dest="seconds", action="store_const", const=SHORT_SECONDS,
                          help=f"{SHORT_SECONDS} seconds for each, as automatic runs have it")
    parser.add_argument("--sanitize", action="store_true",
                        help="test and fuzz the compiled part under AddressSanitizer and UBSan")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET",
                        help=f"what to fuzz, of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="targets at a time; default: 2")
    parser.add_argument("--keep", action="store_true",
                        help="put what was found into the corpus, and make that as small as it can be")
    parser.add_argument("--lives", type=int, metavar="N",
                        help="check that many lives of a connection against the model, and fuzz nothing")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this one input, and fuzz nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
