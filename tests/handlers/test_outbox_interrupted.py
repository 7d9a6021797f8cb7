"""Signal handlers and finalizers put messages while they interrupt an outbox, and lose none."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ..support.peer import StartPeer
from ..support.programs import INTERRUPTIONS, Run
from .acking import Acking

#: Puts messages for two seconds or longer, while a signal handler (at 500 Hz) and finalizers do so as well.
STRESS = INTERRUPTIONS + """
from lochws.handlers.outbox import Outbox

boxes = [
    Outbox(app, path, confirm=lambda event: event.json["ack"], id_field="id", synchronous="NORMAL")
    for path in (None, PATH)
]
puts = []

def put():
    for box in boxes:
        puts.append(box.put({"n": 0}))

def interruption():
    put()
    for box in boxes:
        box.pending, box.counts

app.start(persist=Backoff(0.01, 0.1))
begin(0.002)
enough = time.monotonic() + 2
while time.monotonic() < enough or len(puts) < 200:
    Finalized()
    put()
end()
flushed = [box.flush(60) for box in boxes]
counts = [box.counts for box in boxes]
for box in boxes:
    box.close()
app.stop(60)
kept = sum(one.confirmed for one in counts)
say("well" if all(flushed) and kept == len(puts) == sum(one.put for one in counts) else f"{flushed} {counts}")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers")
def test_puts_that_interrupt_puts_are_all_confirmed(tmp_path: Path, run: Run, start_peer: StartPeer) -> None:
    server = Acking()
    program = run(f"PATH = {str(tmp_path / 'box')!r}\n{STRESS}", start_peer(server).url)
    program.wait_for("well")
    status, _, errors = program.end()
    assert (status, errors) == (0, "")
    assert len({message["id"] for message in server.seen}) == len(server.seen) > 50
