"""Evidence for docs/outbox.md: `python -m tests.outbox [kills tells million rates disk damage]`."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from lochws import WebSocketApp
from lochws.handlers.outbox import Outbox, OutboxError

from .server import recording

KILLS = 200
#: Seconds that a program runs after its first message, before it is killed.
LONGEST = 0.4


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def child(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.outbox.child", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_of(process: subprocess.Popen[str], kill_after: float | None = None) -> list[str]:
    """Return the whole lines that a program prints; kill it some time after the first one."""
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    if kill_after is not None:
        threading.Timer(kill_after, process.send_signal, [signal.SIGKILL]).start()
    lines += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return [line.rstrip() for line in lines if line.endswith("\n")]


def kills(folder: Path, in_doubt: str = "resend") -> None:
    """Kill a program that puts messages, and compare what it put with what the server has seen."""
    rng = random.Random(1)
    put: set[str] = set()
    told: set[str] = set()
    with recording(cuts=True) as record:
        for run in range(KILLS):
            synchronous = ("FULL", "NORMAL")[run % 2]
            program = child("putting", folder / f"kills-{in_doubt}", record.url, run, in_doubt, synchronous)
            for line in lines_of(program, rng.uniform(0, LONGEST)):
                word, _, own = line.partition(" ")
                (put if word == "put" else told).add(own)
        last = lines_of(child("putting", folder / f"kills-{in_doubt}", record.url, "-", in_doubt, "FULL"))
        told |= {line.split()[1] for line in last if line.startswith("told ")}
        say(last[-1])
        seen, repeated = set(record.ids), len(record.ids) - len(set(record.ids))
    if in_doubt == "resend":
        assert put <= seen, f"lost: {sorted(put - seen)[:10]}"
    else:
        assert put <= seen | told, f"lost: {sorted(put - seen - told)[:10]}"
        assert not repeated, "a message was sent twice"
    # A kill during `put` may leave a message that was kept, and not reported as put: one for each thread.
    more = len((seen | told) - put)
    assert more <= 2 * KILLS
    say(
        f"{in_doubt}: {KILLS} kills, {len(put)} messages put, all of them seen{' or told' if told else ''}; "
        f"{more} more from puts that were killed; {repeated} repetitions; {len(told)} told, "
        f"of which the server had seen {len(told & seen)}"
    )


def tells(folder: Path) -> None:
    """Do the same with in_doubt="tell"."""
    kills(folder, "tell")


def million(folder: Path) -> None:
    """Put and send a million messages."""
    path = folder / "million"
    with recording() as record:
        for line in lines_of(child("million", path, record.url)):
            say(line)
        say(f"file: {path.stat().st_size / 1e6:.0f} MB")
        for line in lines_of(child("deliver", path, record.url)):
            say(line)
        say(f"the server has seen {record.count}")


def rates(folder: Path) -> None:
    """Put as many messages as possible, in several ways."""
    with open(folder / "sync", "wb") as file:
        began = time.monotonic()
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    say(f"one fsync of this disk: {(time.monotonic() - began) / 200 * 1e3:.2f} ms")
    with recording() as record:
        number = 0
        for sends in ("keep", "send"):
            for synchronous in ("FULL", "NORMAL"):
                for threads, batch in ((1, 1), (16, 1), (64, 1), (1, 100), (1, 1000), (4, 100)):
                    if sends == "send" and (threads, batch) != (1, 100):
                        continue
                    number += 1
                    path = folder / f"rate-{number}"
                    program = child("rate", path, record.url, synchronous, threads, batch, 5, sends)
                    for line in lines_of(program):
                        say(f"{'while sending, ' if sends == 'send' else ''}{line}")


def disk(folder: Path) -> None:
    """Fill a small file system, and see that messages are refused, sent and confirmed nevertheless."""
    mount = folder / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], check=False).returncode:
        say("disk: no permission to mount a tmpfs")
        return
    try:
        with recording() as record:
            app = WebSocketApp(record.url)
            options = {"confirm": lambda event: event.json["ack"], "id_field": "id"}
            with app, Outbox(app, mount / "box", **options) as outbox:  # type: ignore[arg-type]
                put, refused = fill(outbox, mount / "filler")
                say(f"disk full after {len(put)} messages: {refused}")
                end = time.monotonic() + 20
                while len(record.ids) < len(put) and time.monotonic() < end:
                    time.sleep(0.1)
                say(f"with no byte left: sent {len(record.ids)}, confirmed {outbox.counts.confirmed}")
                (mount / "filler").unlink()
                say(f"with room again, all are confirmed: {outbox.flush(20)}")
                outbox.put({"n": "last"})
                assert outbox.flush(20)
                assert record.ids == [*put, "last"]
    finally:
        subprocess.run(["umount", mount], check=True)


def fill(outbox: Outbox, filler: Path) -> tuple[list[str], str]:
    """Put messages until the disk, half of which is taken, is full; return their numbers and the error."""
    filler.write_bytes(bytes(1_000_000))
    put: list[str] = []
    while True:
        try:
            outbox.put({"n": str(len(put)), "x": "x" * 500})
        except OutboxError as error:
            with suppress(OSError), filler.open("ab") as file:
                while True:
                    file.write(b"x" * 1024)
                    file.flush()
            return put, str(error)
        put.append(str(len(put)))


def damage(folder: Path) -> None:
    """Flip a bit at every offset of a file, and truncate it at many."""
    path, damaged = folder / "whole", folder / "damaged"
    app = WebSocketApp("ws://127.0.0.1:1/")
    with Outbox(app, path) as outbox:
        for number in range(30):
            outbox.put(f"message {number}" * 20, supersede=f"k{number}" if number % 3 else None, expires=1e6)
            outbox.put(bytes(range(number)))
        kept = list(outbox)
    content = path.read_bytes()
    rng = random.Random(3)
    results: Counter[str] = Counter()
    for kind, offsets in (("flip", range(len(content))), ("truncate", range(1, len(content), 50))):
        for offset in offsets:
            changed = bytearray(content)
            if kind == "flip":
                changed[offset] ^= 1 << rng.randrange(8)
            else:
                del changed[offset:]
            damaged.write_bytes(changed)
            try:
                with Outbox(app, damaged) as outbox:
                    found = list(outbox)
            except OutboxError as error:
                results[f"{kind}: refused" if str(damaged) in str(error) else f"{kind}: UNCLEAR"] += 1
                continue
            if found == kept:
                results[f"{kind}: harmless"] += 1
            else:
                results[f"{kind}: NOT NOTICED"] += 1
                say(f"not noticed: {kind} at {offset}")
    say(f"{len(content)} bytes: {dict(results)}")


PARTS = {"kills": kills, "tells": tells, "million": million, "rates": rates, "disk": disk, "damage": damage}


def main() -> None:
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("LOCHWS_DISK")))
    try:
        for name in sys.argv[1:] or PARTS:
            began = time.monotonic()
            PARTS[name](folder)
            say(f"({name}: {time.monotonic() - began:.0f} s)")
    finally:
        shutil.rmtree(folder)


main()
