"""The programs that the evidence about outboxes starts: `python -m tests.outbox.child WHAT PATH URL …`."""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import Any

from lochws import Backoff, WebSocketApp
from lochws.handlers.outbox import Outbox, OutboxMessage

WINDOW = 100
SMALL = {"n": 0, "x": "x" * 60}


def say(*words: object) -> None:
    """Print a line at once. One system call, so that a kill leaves whole lines."""
    line = " ".join(map(str, words))
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def peak() -> int:
    """Return the largest memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def boxed(path: str, url: str, **options: Any) -> tuple[WebSocketApp, Outbox]:
    app = WebSocketApp(url)
    outbox = Outbox(
        app, path, confirm=lambda event: event.json["ack"], id_field="id", **{"window": WINDOW, **options}
    )
    return app, outbox


def told(message: OutboxMessage) -> None:
    say("told", message.id)


def putting(path: str, url: str, run: str, in_doubt: str, synchronous: str) -> None:
    """Put messages on two threads until killed, or only send what there is (run "-")."""
    options: dict[str, Any] = {"synchronous": synchronous}
    if in_doubt == "tell":
        options |= {"in_doubt": "tell", "on_in_doubt": told}
    app, outbox = boxed(path, url, **options)
    app.start(persist=Backoff(0.01, 0.1))

    def put(name: str) -> None:
        number = 0
        while True:
            own = f"{run}-{name}-{number}"
            outbox.put({"n": own}, id=own)
            say("put", own)
            number += 1

    if run == "-":
        say("flushed", outbox.flush(60), *outbox.counts)
        outbox.close()
        app.stop(60)
        return
    threading.Thread(target=put, args=("a",), daemon=True).start()
    put("b")


def million(path: str, url: str) -> None:
    """Put a million messages, 1,000 at a time."""
    _, outbox = boxed(path, url)
    began = time.monotonic()
    for _ in range(1000):
        outbox.put_many([SMALL] * 1000)
    say(f"put 1,000,000 in {time.monotonic() - began:.1f} s, peak {peak()} MiB")
    outbox.close()


def deliver(path: str, url: str) -> None:
    """Open a file with a million messages, iterate over it, and send them."""
    say(f"peak at the start: {peak()} MiB")
    began = time.monotonic()
    app, outbox = boxed(path, url, window=1000)
    say(f"opened in {time.monotonic() - began:.1f} s, {outbox.pending} messages, peak {peak()} MiB")
    began = time.monotonic()
    count = sum(1 for _ in outbox)
    say(f"iterated over {count} in {time.monotonic() - began:.1f} s, peak {peak()} MiB")
    began = time.monotonic()
    app.start()
    done = outbox.flush(1200)
    seconds = time.monotonic() - began
    say(f"confirmed {outbox.counts.confirmed} in {seconds:.0f} s ({done}), peak {peak()} MiB")
    outbox.close()
    app.stop(60)


def rate(path: str, url: str, synchronous: str, threads: str, batch: str, seconds: str, sends: str) -> None:
    """Put as many messages as possible."""
    app, outbox = boxed(path, url, synchronous=synchronous, max_messages=10_000_000, window=1000)
    if sends == "send":
        app.start()
    end = time.monotonic() + float(seconds)
    size = int(batch)
    counts = [0] * int(threads)

    def put(index: int) -> None:
        while time.monotonic() < end:
            if size == 1:
                outbox.put(SMALL)
            else:
                outbox.put_many([SMALL] * size)
            counts[index] += size

    running = [threading.Thread(target=put, args=(index,)) for index in range(len(counts))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    done = outbox.flush(300) if sends == "send" else None
    per_second = sum(counts) / float(seconds)
    say(
        f"{synchronous}, threads {threads}, batches of {batch}: {per_second:,.0f} messages/s"
        + ("" if done is None else f", all confirmed {time.monotonic() - end:.1f} s later: {done}")
    )
    outbox.close()
    app.stop(60)


def main() -> None:
    what, *arguments = sys.argv[1:]
    {"putting": putting, "million": million, "deliver": deliver, "rate": rate}[what](*arguments)


main()
