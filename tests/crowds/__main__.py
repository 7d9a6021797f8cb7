"""Evidence for docs/many-connections.md: `python -m tests.crowds [PART …]`; see ``--help``.

Prints a line for each measurement, with what is wanted of it. The exit status is 1 if a bound was missed.
Linux only. Needs aiohttp, picows, trustme and uvloop (extras ``bench`` and ``test``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.support.delayed_link import FAR_HOST, is_possible, link_command
from tests.support.ports import silent_port

from .processes import PACKAGE, Job, Process, client, raise_descriptor_limit, server, write_certificates
from .server import say

KIB, MIB = 1024, 1024 * 1024
#: Seconds of delay each way.
DELAY = 0.025
#: Seconds for which a server is down.
DOWN = 5.0
MOST_THREADS = 8
missed: list[str] = []


def show(name: str, values: Sequence[float], unit: str, most: float | None = None) -> None:
    """Print all values with their median, and the target for the median."""
    found = median(values)
    rounds = f"  ({' '.join(f'{value:.4g}' for value in values)})" if len(values) > 1 else ""
    wanted = ""
    if most is not None:
        wanted = f"  at most {most:g}: {'met' if found <= most else 'MISSED'}"
        if found > most:
            missed.append(name)
    say(f"{name:<58}{found:8.4g} {unit:<6}{rounds}{wanted}")


def percentiles(name: str, values: Sequence[float]) -> None:
    """Print the percentiles of latencies."""
    ordered = sorted(1000 * value for value in values)
    parts = (f"p{part} {ordered[len(ordered) * part // 100]:.4g}" for part in (50, 90, 99))
    say(f"{name:<58}{', '.join(parts)}, max {ordered[-1]:.4g} ms  ({len(ordered)})")


@contextmanager
def certificates(*hosts: str) -> Iterator[tuple[str, str]]:
    """Make certificates; yield the file of the authority, and that of the server."""
    with tempfile.TemporaryDirectory() as folder:
        write_certificates(Path(folder), *hosts)
        yield f"{folder}/ca.pem", f"{folder}/server.pem"


@dataclass
class Opened:
    """Opened connections: the elapsed seconds, the processor's seconds, and the threads."""

    seconds: float
    processor: float
    threads: int


def opened(library: str, host: str, count: int, authority: str = "", certificate: str = "") -> Opened:
    """Open connections with a library."""
    with server("open", certificate, host="0.0.0.0") as (_, port):
        url = f"{'wss' if certificate else 'ws'}://{host}:{port}/"
        job = Job(role="opening", url=url, count=count, authority=authority, library=library)
        with client(job) as process:
            seconds = float(process.line())
            return Opened(seconds, process.processor_seconds, process.peak_threads)


def delayed(rounds: int) -> None:
    """1,000 connections behind a link with delay. Needs a network namespace with a TUN device."""
    if not is_possible():
        say("delayed: this user may not create a network namespace with a TUN device")
        return
    command = [sys.executable, "-m", "tests.crowds", "--rounds", str(rounds), "behind-a-link"]
    if subprocess.run(link_command(command, DELAY), check=False).returncode:
        missed.append("delayed")


def behind_a_link(rounds: int) -> None:
    """Open 1,000 connections to `FAR_HOST`."""
    with certificates(FAR_HOST) as (authority, certificate):
        for name, most, files in (("plain", 3.0, ("", "")), ("TLS", 5.0, (authority, certificate))):
            took = in_turn(rounds, FAR_HOST, 1000, *files)
            for library, found in took.items():
                bound = most if library == "lochws" else None
                show(f"1,000 {name}, 25 ms each way, {library}", [each.seconds for each in found], "s", bound)
                show("processor time", [each.processor for each in found], "s")


def in_turn(
    rounds: int, host: str, count: int, authority: str = "", certificate: str = ""
) -> dict[str, list[Opened]]:
    """Open connections with aiohttp and lochws, which take turns."""
    took: dict[str, list[Opened]] = {"aiohttp": [], "lochws": []}
    for number in range(rounds):
        for library in sorted(took, reverse=bool(number % 2)):
            took[library].append(opened(library, host, count, authority, certificate))
    return took


def loopback(rounds: int) -> None:
    """10,000 plain connections on loopback, beside aiohttp."""
    took = in_turn(rounds, "127.0.0.1", 10_000)
    for library, found in took.items():
        show(f"10,000 plain on loopback, {library}", [each.seconds for each in found], "s")
        show("processor time", [each.processor for each in found], "s")
    pairs = list(zip(took["lochws"], took["aiohttp"], strict=True))
    show("lochws to aiohttp", [ours.seconds / theirs.seconds for ours, theirs in pairs], "times", 1.5)
    show("in processor time", [ours.processor / theirs.processor for ours, theirs in pairs], "times")
    show("threads", [each.threads for each in took["lochws"]], "", MOST_THREADS)


def dead(rounds: int) -> None:
    """A healthy host beside 500 and 2,000 that do not answer, on the same threads."""
    for count in (500, 2000):
        later, threads = [], []
        for _ in range(rounds):
            with server("open") as (_, port), silent_port() as nothing:
                url, other_url = f"ws://127.0.0.1:{port}/", f"ws://{{}}:{nothing}/"
                job = Job(role="dead", url=url, count=count, other_url=other_url)
                with client(job) as process:
                    found = process.ask()
                    threads.append(process.peak_threads)
            percentiles("a healthy host alone", found["alone"])
            percentiles(f"the same beside {count:,} dead ones", found["beside"])
            later.append(1000 * (max(found["beside"]) - median(found["alone"])))
        show(f"the longest beside {count:,}, less the median alone", later, "ms", 200)
        show("threads", threads, "")


def restart(rounds: int) -> None:
    """10,000 connected apps whose server is killed, and returns after 5 s."""
    for per_second in (0, 500):
        for _ in range(rounds):
            restarted(f"Governor({per_second})" if per_second else "no Governor", per_second)


def restarted(name: str, per_second: int, count: int = 10_000) -> None:
    """Measure one restart."""
    with ExitStack() as first:
        killed, port = first.enter_context(server("open"))
        job = Job(role="restart", url=f"ws://127.0.0.1:{port}/", count=count, per_second=per_second)
        with client(job) as process:
            process.line()
            time.sleep(1)
            memory = process.memory
            process.reset_peaks()
            used = -process.processor_seconds
            killed.kill()
            time.sleep(DOWN)
            with server("open", port=port) as (back, _):
                at = time.monotonic()
                found = process.ask()
                seen: list[float] = back.ask()
                used += process.processor_seconds
                peak, threads = process.peak_memory, process.peak_threads
    back_after = sorted(ready - at for ready in found["ready"])
    half, nearly = back_after[len(back_after) // 2], back_after[len(back_after) * 99 // 100]
    down = sum(attempt < at for attempt in found["attempts"])
    say(
        f"{name}: the last is back after {back_after[-1]:.1f} s (half {half:.1f} s, 99 % {nearly:.1f} s; "
        f"processor {used:.1f} s); {down} attempts while the server was down, {len(seen)} requests "
        f"afterwards, at most {most_within(seen, 1.0)} in 1 s and {most_within(seen, 0.1)} in 0.1 s; memory "
        f"{memory / MIB:.0f} MiB connected, at most {peak / MIB:.0f} MiB; at most {threads} threads"
    )
    if len(found["ready"]) < count:
        missed.append(name)


def most_within(times: Sequence[float], seconds: float) -> int:
    """Return the largest number of times (which are in order) within this many seconds."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def fairness(rounds: int) -> None:
    """One flooded connection and 200 handshakes at once, on one loop."""
    with certificates("127.0.0.1") as files:
        for name, (authority, certificate) in (("plain", ("", "")), ("TLS", files)):
            for _ in range(rounds):
                with server("open", certificate) as (_, port), server("flood") as (_, flooding):
                    url = f"{'wss' if certificate else 'ws'}://127.0.0.1:{port}/"
                    job = Job(role="fairness", url=url, count=200, authority=authority,
                              other_url=f"ws://127.0.0.1:{flooding}/")
                    with client(job) as process:
                        found = process.ask()
                for what in ("handshakes alone", "handshakes beside", "flood alone", "flood beside"):
                    percentiles(f"{name}: {what}", found[what])
                show(f"{name}: processor time of the flood meanwhile", [100 * found["share"]], "%")


def memory(rounds: int) -> None:
    """Memory of an attempt that waits for the server, allocated with malloc, and what is left of it."""
    with certificates("127.0.0.1") as (authority, file):
        for name, scheme, files, most in (
            ("plain, upgrade", "ws", ("", ""), 24),
            ("TLS, handshake", "wss", (authority, ""), 64),
            ("TLS, upgrade", "wss", (authority, file), 64),
        ):
            with server("silent", files[1]) as (peer, port):
                job = Job(role="memory", url=f"{scheme}://127.0.0.1:{port}/", count=500, authority=files[0])
                with client(job, {"PYTHONMALLOC": "malloc"}) as process:
                    taken, left = attempts(process, peer, job.count, rounds)
            show(f"an attempt, {name}", taken, "KiB", most)
            show("the app with its last event, afterwards", left, "KiB", 16)


def attempts(process: Process, peer: Process, count: int, rounds: int) -> tuple[list[float], list[float]]:
    """Have attempts begin and end; return the KiB of each app while they are under way, and after them."""
    wait_until_seen(peer, 1)
    before = process.ask()
    taken, left = [], []
    for number in range(rounds):
        process.ask()
        wait_until_seen(peer, 1 + (number + 1) * count)
        taken.append((process.ask() - before) / count / KIB)
        left.append((process.ask() - before) / count / KIB)
    return taken, left


def wait_until_seen(peer: Process, count: int) -> None:
    """Wait until a server has seen that many requests."""
    while len(peer.ask()) < count:
        time.sleep(0.05)


PARTS = {part.__name__: part for part in (delayed, loopback, dead, restart, fairness, memory)}


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.crowds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--package", default="", metavar="FOLDER",
                        help="measure the lochws of another checkout, built there, such as an earlier one")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "behind-a-link", []], metavar="PART",
                        help=f"{', '.join(PARTS)}; all without one")
    options = parser.parse_args()
    raise_descriptor_limit()
    if options.package:
        os.environ[PACKAGE] = os.path.abspath(options.package)
    if options.parts == ["behind-a-link"]:
        behind_a_link(options.rounds)
        return len(missed)
    say(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, Python {sys.version.split()[0]}, "
        f"load {os.getloadavg()[0]:.1f}")
    for name in options.parts or PARTS:
        began = time.monotonic()
        PARTS[name](options.rounds)
        say(f"({name}: {time.monotonic() - began:.0f} s)")
    for name in missed:
        say(f"missed: {name}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
