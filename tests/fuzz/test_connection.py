"""A whole connection against a model: any order of actions of the user, the peer and time.

The model knows what the peer has sent and the user has done. From that follow the events, the Close frames
and the final event. How much of it has happened yet is up to the turns of the loop, so events are held to be
a beginning of what the model says, and all of it once everything had its turn.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from wsproto.frame_protocol import FrameProtocol

from lochws.connection import outgoing, sendqueue
from lochws.errors import QueueFull, TransportFail, WebSocketClosed, WebSocketClosing
from lochws.protocol.close import encode_close

from ..support.interrupting import enter
from ..support.wire import frame
from .scene import CLOSE_TIMEOUT, MAX_MESSAGE, PING_RATE, PING_TIMEOUT, Scene, peer_deflate

#: What a server must not send between two messages, and the code that tells it so (RFC 6455 section 7.4.1).
WRONGS = [
    (frame(3), 1002), (frame(11), 1002), (frame(1, b"x", mask=True), 1002), (frame(1, b"x", rsv=2), 1002),
    (frame(9, b"x", fin=False), 1002), (b"\x89\x7e\x00\x7e" + bytes(126), 1002), (frame(0, b"x"), 1002),
    (frame(8, b"\x03"), 1002), (frame(8, b"\x03\xed"), 1002), (frame(8, b"\x03\xe8\xff"), 1007),
    (frame(1, b"\xff"), 1007), (frame(1, b"\xed\xa0\x80", fin=False), 1007),
    (frame(2, bytes(MAX_MESSAGE + 1)), 1009),
]

#: Where a signal handler or a finalizer may interrupt a send.
QUEUE = {outgoing.__file__, sendqueue.__file__}

LARGE = st.one_of(st.integers(0, MAX_MESSAGE), st.just(MAX_MESSAGE))
TEXTS = st.one_of(st.text(max_size=30), LARGE.map("x".__mul__))
BINARIES = st.one_of(st.binary(max_size=30), LARGE.map(bytes))
CONTROLS = st.binary(max_size=125)
CODES = st.sampled_from([None, 1000, 1001, 1011, 3000, 4999])
REASONS = st.sampled_from(["", "bye", "grüße"])


class Life(RuleBasedStateMachine):
    """One connection, from Ready to its final event."""

    @initialize(
        compress=st.booleans(), gather=st.booleans(), when_full=st.sampled_from(["raise", "drop"]),
        calm=st.integers(0, 20), patient=st.booleans(),
    )
    def open(self, compress: bool, gather: bool, when_full: str, calm: int, patient: bool) -> None:
        self.scene = Scene(compress=compress, gather=gather, when_full=when_full)
        self.connection = self.scene.connection
        self.gathers = gather
        self.began = self.scene.clock.now
        self.server = FrameProtocol(client=False, extensions=list(peer_deflate()) if compress else [])
        # The peer: what it has still to send, and what each frame means once its last byte has left.
        self.out = b""
        self.sent = 0
        self.meanings: list[tuple[int, tuple[str, Any]]] = []
        self.fragments = ""
        self.said_last = False  # a Close frame or a violation: what follows means nothing
        self.peer_ended = False
        self.peer_reset = False
        # The user.
        self.accepted: list[str | bytes] = []
        self.pings: list[str | bytes] = []
        self.close: bytes | None = None  # the payload of our Close frame, once it was made
        self.dropped: str | None = None
        # For that many steps nobody ends anything, or lives would be short.
        self.calm = calm
        self.patient = patient  # the peer: in the end it answers, and leaves the rest to us
        self.scene.turn()

    # The user's calls.

    @rule(text=TEXTS)
    def send_text(self, text: str) -> None:
        self.send(text, lambda: self.connection.sending.send_text(text, True))

    @rule(data=BINARIES, compress=st.booleans())
    def send_binary(self, data: bytes, compress: bool) -> None:
        self.send(data, lambda: self.connection.sending.send_binary(data, compress))

    @rule(messages=st.lists(st.one_of(TEXTS, BINARIES), min_size=1, max_size=4))
    def send_many(self, messages: list[str | bytes]) -> None:
        before = len(self.accepted)
        self.send("", lambda: self.connection.sending.send_many(messages, True))
        if self.accepted[before:]:
            self.accepted[before:] = messages

    @rule(text=st.text(max_size=30), point=st.integers(1, 200))
    def send_interrupts_itself(self, text: str, point: int) -> None:
        """A signal handler or a finalizer sends the same at any bytecode of the send queue, so either may be
        first."""
        enter(lambda: self.send_text(text), point, QUEUE, lambda: self.send_text(text))

    @rule(data=CONTROLS)
    def send_ping(self, data: bytes) -> None:
        before = len(self.accepted)
        self.send(data, lambda: not self.connection.sending.send_ping(data))  # type: ignore[func-returns-value]
        if self.accepted[before:]:
            self.pings.append(self.accepted.pop())

    def send(self, message: str | bytes, call: Any) -> None:
        """Send a message: it is accepted, or refused for a reason that the model knows too."""
        try:
            if call():
                assert self.close is None
                self.accepted.append(message)
        except QueueFull:
            assert self.close is None
            assert self.gathers or self.connection.sending.queue.is_blocked
        except WebSocketClosing:
            assert self.close is not None
        except WebSocketClosed:
            assert self.scene.finals or self.connection.sending.queue.failure is not None
        except TransportFail:
            assert self.peer_ended

    @precondition(lambda self: self.calm < 0)
    @rule(code=CODES, reason=REASONS)
    def user_closes(self, code: int | None, reason: str) -> None:
        self.note_close(encode_close(code, reason))
        self.connection.close(code, reason)

    @precondition(lambda self: self.calm < -8)
    @rule()
    def user_drops(self) -> None:
        if not self.scene.finals and self.dropped is None:
            self.dropped = "dropped by the test"
        self.note_close(encode_close(1001, "dropped by the test"))
        self.connection.drop("dropped by the test")

    def note_close(self, payload: bytes) -> None:
        """Our first Close frame is about to be made, the only one; none is made once sending is over."""
        queue = self.connection.sending.queue
        if self.close is None and not self.scene.finals and queue.failure is None:
            self.close = payload

    # What the peer sends. It goes into `out`, and from there in pieces.

    def say(self, data: bytes | bytearray, name: str = "", content: Any = None) -> None:
        if self.peer_ended:
            return
        self.out += bytes(data)
        if name and not self.said_last:
            self.meanings.append((self.sent + len(self.out), (name, content)))
            self.said_last = name in ("close", "wrong")

    @precondition(lambda self: not self.fragments)
    @rule(message=st.one_of(TEXTS, BINARIES))
    def peer_sends(self, message: str | bytes) -> None:
        self.say(self.server.send_data(message), "text" if isinstance(message, str) else "binary", message)

    @precondition(lambda self: not self.fragments)
    @rule(data=st.binary(max_size=30), size=st.sampled_from([2, 8]))
    def peer_sends_a_length_in_a_longer_form(self, data: bytes, size: int) -> None:
        head = bytes([0x82, 126 if size == 2 else 127]) + len(data).to_bytes(size, "big")
        self.say(head + data, "binary", data)

    @precondition(lambda self: not self.fragments)
    @rule(text=st.text(min_size=1, max_size=20))
    def peer_begins_fragments(self, text: str) -> None:
        self.fragments = text
        self.say(self.server.send_data(text, fin=False))

    @precondition(lambda self: self.fragments)
    @rule(text=st.text(max_size=20), final=st.booleans())
    def peer_goes_on(self, text: str, final: bool) -> None:
        self.fragments += text
        data = self.server.send_data(text, fin=final)
        if final:
            self.say(data, "text", self.fragments)
            self.fragments = ""
        else:
            self.say(data)

    @rule(data=CONTROLS)
    def peer_pings(self, data: bytes) -> None:
        self.say(self.server.ping(data), "ping", data)

    @rule(data=CONTROLS)
    def peer_pongs(self, data: bytes) -> None:
        self.say(self.server.pong(data), "pong", data)

    @precondition(lambda self: self.calm < 0)
    @rule(code=CODES, reason=REASONS)
    def peer_closes(self, code: int | None, reason: str) -> None:
        self.say(self.server.close(code, reason if code else None), "close", (code, reason if code else ""))

    @precondition(lambda self: self.calm < 0)
    @rule(wrong=st.sampled_from(WRONGS), behind=st.binary(max_size=40))
    def peer_breaks_a_rule(self, wrong: tuple[bytes, int], behind: bytes) -> None:
        data, code = wrong
        opcode = data[0] & 0x0F
        if self.fragments and opcode < 8:
            # Within a message any other is wrong, and a continuation is not.
            data, code = (data, 1002) if opcode else (frame(2), 1002)
        self.say(data, "wrong", code)
        self.say(behind)

    @precondition(lambda self: self.said_last)
    @rule(garbage=st.binary(max_size=40))
    def peer_sends_after_its_last_word(self, garbage: bytes) -> None:
        self.say(garbage)

    @precondition(lambda self: not self.fragments)
    @rule(messages=st.lists(st.one_of(st.text(max_size=9), st.binary(max_size=9)), max_size=6), ping=CONTROLS)
    def peer_talks(self, messages: list[str | bytes], ping: bytes) -> None:
        """Many frames at once, with pings between them."""
        for message in messages:
            self.peer_sends(message)
            self.peer_pings(ping)
        self.bytes_leave(1 << 20)

    @rule(count=st.sampled_from([1, 2, 5, 1 << 20, 1 << 20, 1 << 20]))
    def bytes_leave(self, count: int) -> None:
        if not self.peer_ended:
            sent = self.scene.send(self.out[:count]) if self.out else 0
            self.out = self.out[sent:]
            self.sent += sent

    @rule(count=st.sampled_from([1, 100, 1 << 20]))
    def peer_reads(self, count: int) -> None:
        if not self.peer_reset:
            self.scene.read(count)

    @precondition(lambda self: self.calm < -8)
    @rule()
    def peer_ends(self) -> None:
        if not self.peer_ended:
            self.peer_ended = True
            try:
                self.scene.peer.shutdown(1)
            except OSError:
                assert self.scene.finals

    @precondition(lambda self: self.calm < -8)
    @rule()
    def peer_vanishes(self) -> None:
        """Closed while something may lie unread, which resets the connection."""
        self.peer_ended = self.peer_reset = True
        self.scene.peer.close()

    # The loop, the handlers, the time.

    @rule()
    def turn(self) -> None:
        self.scene.turn()
        self.note_what_was_due()

    def note_what_was_due(self) -> None:
        """Note a Close frame of the loop: to a dead peer, and for a failure if handlers take too long."""
        wrong = [content for _, (name, content) in self.meanings if name == "wrong"]
        sent = self.connection.sending.close_sent
        if self.close is None and wrong and sent is not None:
            assert sent.code in (wrong[0], 1011)
            self.close = encode_close(sent.code, sent.reason)
        if self.close is None and sent is not None:
            assert sent.code == 1011
            assert self.scene.clock.now - self.began >= PING_TIMEOUT
            self.close = encode_close(sent.code, sent.reason)

    @rule()
    def handlers_run(self) -> None:
        queue = self.connection.sending.queue
        for event in self.scene.handle():
            if queue.failure is not None or self.scene.finals:
                continue
            if event.name == "closing" and self.close is None:
                self.close = encode_close(event.code, event.reason)  # type: ignore[attr-defined]
            if event.name == "protocol_error":
                self.note_what_was_due()
                assert self.close is not None

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, CLOSE_TIMEOUT, PING_RATE, PING_TIMEOUT]))
    def time_passes(self, seconds: float) -> None:
        self.scene.clock.now += seconds

    @rule()
    def all_settles(self) -> None:
        """Everything that is under way arrives and is handled; then the model knows all."""
        for _ in range(12):
            self.bytes_leave(1 << 20)
            self.peer_reads(1 << 20)
            self.turn()
            self.handlers_run()
            self.handlers_run()
        if self.peer_reset or self.dropped or self.scene.finals:
            return
        assert [self.as_model(event) for event in self.data_events()] == self.happened_data()
        if not self.peer_ended and not self.out:
            self.check_pongs()
        self.check_settled_wire()

    # What must hold.

    def happened(self) -> list[tuple[str, Any]]:
        """Return what the peer has said in the bytes that it has sent so far."""
        return [meaning for end, meaning in self.meanings if end <= self.sent]

    def happened_data(self) -> list[tuple[str, Any]]:
        return [meaning for meaning in self.happened() if meaning[0] not in ("close", "wrong")]

    def data_events(self) -> list[Any]:
        return [event for event in self.scene.handled if event.name in ("text", "binary", "ping", "pong")]

    @staticmethod
    def as_model(event: Any) -> tuple[str, Any]:
        return event.name, event.text if event.name == "text" else event.data

    def check_pongs(self) -> None:
        """While nothing is closing, every ping has its pong."""
        if self.close is None:
            assert self.scene.wire.pongs == [content for name, content in self.happened() if name == "ping"]

    def check_settled_wire(self) -> None:
        wire = self.scene.wire
        if not self.connection.sending.queue.is_blocked:
            assert wire.messages == self.accepted
            assert wire.closes == ([] if self.close is None else [self.close])

    @invariant()
    def events_are_what_the_peer_said(self) -> None:
        if not hasattr(self, "scene"):
            return
        self.calm -= 1
        data = [self.as_model(event) for event in self.data_events()]
        assert data == self.happened_data()[: len(data)]
        names = [event.name for event in self.scene.handled]
        assert names[:1] in ([], ["ready"])
        assert names.count("closing") + names.count("closed") + names.count("protocol_error") <= 1
        assert "disconnected" not in names[:-1]

    @invariant()
    def the_wire_is_what_the_user_said(self) -> None:
        if not hasattr(self, "scene"):
            return
        wire = self.scene.wire
        assert wire.messages == self.accepted[: len(wire.messages)]
        assert wire.closes in ([], [self.close])
        own = [data for data in wire.pings if data not in self.pings]
        assert len(own) <= 1 + (self.scene.clock.now - self.began) // PING_RATE
        pings = iter([content for name, content in self.happened() if name == "ping"])
        assert all(pong in pings for pong in wire.pongs), "a pong that no ping asked for, or out of order"

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        try:
            self.user_closes(1000, "")
            self.all_settles()
            if self.patient:
                self.peer_closes(1000, "")
            else:
                self.peer_ends()
            for _ in range(10):
                self.all_settles()
                self.scene.clock.now += CLOSE_TIMEOUT
            self.check_end()
        finally:
            self.scene.end()

    def check_end(self) -> None:
        """There was one final event, the last, and it says what the model knows."""
        (final,) = self.scene.finals
        assert self.scene.handled[-1] is final
        assert not self.scene.loop.has_channels
        happened = dict(self.happened())
        names = [event.name for event in self.scene.handled]
        closed = "close" in happened and ("closing" in names or "closed" in names)
        sent = self.connection.sending.close_sent
        assert (None if self.close is None else self.close[:2]) == (
            None if sent is None else encode_close(sent.code)
        )
        assert final.sent_code == (None if sent is None else sent.code)
        assert final.received_code == (happened["close"][0] if closed else None)
        if "protocol_error" in names:
            assert not final.graceful
            # The beginning of a wrong frame may be enough.
            assert self.meanings[-1][1][0] == "wrong"
            assert (final.ended_by, final.error is None) == ("server", False) or self.dropped == final.reason
        if final.graceful:
            assert closed
            assert self.close is not None
            assert final.ended_by == ("server" if "closing" in names else "client")
        elif final.ended_by == "client":
            assert self.dropped == final.reason or "before it took our Close frame" in final.reason
        elif final.ended_by == "server":
            assert "protocol_error" in names or self.peer_ended
        if closed and not self.dropped and not self.peer_reset:
            assert final.graceful or self.was_out_of_time(final.reason)
        self.check_messages(final.unsent)

    def was_out_of_time(self, reason: str) -> bool:
        """Return whether the final event says that a time was over, and it was."""
        passed = self.scene.clock.now - self.began
        return ("ping timeout" in reason and passed >= PING_TIMEOUT) or (
            "did not answer our Close frame" in reason and passed >= CLOSE_TIMEOUT
        )

    def check_messages(self, unsent: tuple[str | bytes, ...]) -> None:
        """Each accepted message was handed to the network whole, or is reported, never both."""
        whole = self.accepted[: len(self.accepted) - len(unsent)]
        assert self.accepted[len(whole) :] == list(unsent)
        messages = self.scene.wire.messages
        assert messages == whole[: len(messages)]
        if not self.peer_reset:
            assert messages == whole


def live(count: int, *, always_the_same: bool = False) -> None:
    """Try that many lives, and show the shortest one that differs from the model."""
    many = settings(
        max_examples=count, stateful_step_count=40, deadline=None, derandomize=always_the_same,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Life, settings=many)


@pytest.mark.timeout(300)
def test_any_life_of_a_connection_is_as_the_model_says() -> None:
    live(60, always_the_same=True)
