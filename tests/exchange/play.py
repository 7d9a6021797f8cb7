"""Steps with faults, played by an exchange, and the program of docs/sequences.md, which keeps its books."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from hypothesis import strategies as st

from lochws import WebSocketApp, events
from lochws.handlers.sequence import Sequence

from ..support.apps import AT_ONCE, opened
from ..support.blocks import whole
from ..support.seen import eventually
from .exchange import CUTS, HTTP_FAULTS, SYMBOLS, Exchange

#: The program on the page.
PROGRAM = whole("docs/sequences.md", "python")[1].text
#: The function that returns the range of numbers of a message there.
RANGES = '(event.json["U"], event.json["u"])'


class Step(NamedTuple):
    """Some changes of a book, and what happens to their messages.

    Attributes:
        symbol: the book.
        count: how many messages.
        order: which of them are sent, in which order.
        repeats: how many of the last messages before are sent again.
        merges: whether a message with all changes of the last two is sent, too.
        together: whether they are sent in one piece.
        cut: how the connection ends afterwards, or None.
        lost: how many changes there are before the next connection.
        http: the faults of the next snapshots.
    """

    symbol: str
    count: int
    order: list[int]
    repeats: int
    merges: bool
    together: bool
    cut: str | None
    lost: int
    http: list[str]

    @property
    def faults(self) -> Counter[str]:
        """The faults in it."""
        found = Counter(
            dropped=len(set(range(self.count)) - set(self.order)),
            duplicated=len(self.order) - len(set(self.order)) + self.repeats,
            reordered=sum(one > other for one, other in zip(self.order, self.order[1:], strict=False)),
            merged=self.merges,
        )
        found.update(f"snapshot {fault}" for fault in self.http)
        if self.cut is not None:
            found[f"cut: {self.cut}"] += 1
        return found


def _orders(count: int) -> st.SearchStrategy[list[int]]:
    every, places = list(range(count)), st.integers(0, count - 1)
    return st.one_of(
        places.map(lambda lost: [one for one in every if one != lost]),
        st.tuples(places, places).map(lambda pair: [*every[: pair[0]], pair[1], *every[pair[0] :]]),
        st.permutations(every),
        st.lists(places, max_size=count + 3),
        st.just(every),
    )


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw a step."""
    count = draw(st.integers(1, 8))
    return Step(
        draw(st.sampled_from(SYMBOLS)), count, draw(_orders(count)), draw(st.integers(0, 3)),
        draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from((None, None, *CUTS))),
        draw(st.integers(0, 3)), draw(st.lists(st.sampled_from(HTTP_FAULTS), max_size=2)),
    )


class Client:
    """The program, connected to an exchange.

    Args:
        exchange: the exchange.
        ranges: whether messages have a range of numbers.
        patience: the argument of its `Sequence`.

    Attributes:
        app, sequence: those of the program.
        passed: how many messages reached its handler.
        wrong: what was wrong after a message.
    """

    def __init__(self, exchange: Exchange, *, ranges: bool, patience: float) -> None:
        text = PROGRAM.replace("resync=load", f"resync=load, patience={patience}")
        if not ranges:
            text = text.replace(RANGES, 'event.json["u"]')
        for url, served in exchange.urls.items():
            assert url in text
            text = text.replace(url, served)
        names: dict[str, Any] = {}
        exec(compile(text, "docs/sequences.md", "exec"), names)
        self.app: WebSocketApp = names["app"]
        self.sequence: Sequence[str] = names["sequence"]
        self._books = names["books"]
        self._exchange = exchange
        self.passed = 0
        self.wrong: list[str] = []
        self.app.on("text")(self._compare)
        self.app.on("error")(lambda error: self.wrong.append(repr(error)))

    def _compare(self, event: events.Text) -> None:
        """Compare a book with what the exchange had after this message, or before it was merged."""
        self.passed += 1
        symbol, number = event.json["s"], event.json["u"]
        if self._books[symbol] != self._exchange.history[symbol][number]:
            self.wrong.append(f"{symbol} differs at {number}")

    def agrees(self) -> bool:
        """Return whether all books are up to date, and the same as those of the exchange."""
        return all(
            self.sequence.last(symbol) == self._exchange.numbers[symbol]
            and self.sequence.is_live(symbol)
            and self._books.get(symbol) == self._exchange.book(symbol)
            for symbol in SYMBOLS
        )


def play(
    exchange: Exchange, seed: int, drawn: list[Step], *, ranges: bool, patience: float
) -> Counter[str]:
    """Play some steps, and check after each of them that the books agree. Return what happened.

    Raises:
        AssertionError: they do not, or a book was wrong at any of its messages.
    """
    exchange.begin(seed)
    client = Client(exchange, ranges=ranges, patience=patience)
    found: Counter[str] = Counter(examples=1)
    recent: dict[str, list[str]] = {symbol: [] for symbol in SYMBOLS}
    with opened(client.app, persist=AT_ONCE):
        for step in drawn:
            exchange.http_faults.extend(step.http)
            texts = exchange.change(step.symbol, step.count)
            sent = [texts[place] for place in step.order]
            if step.merges and ranges and step.count > 1:
                sent.insert(len(sent) // 2, exchange.merged(step.symbol, texts[-2:]))
            sent += recent[step.symbol][len(recent[step.symbol]) - step.repeats :]
            exchange.send(sent, together=step.together)
            recent[step.symbol] = texts
            if step.cut is not None:
                count = exchange.count
                exchange.cut(step.cut, texts[-1])
                exchange.change(step.symbol, step.lost)
                eventually(lambda: exchange.count > count and client.app.is_active)  # noqa: B023  called at once
            for symbol in SYMBOLS:
                exchange.send(exchange.change(symbol, 1))
            eventually(client.agrees)
            assert not client.wrong
            found += step.faults
            found.update(steps=1, messages=len(sent) + len(SYMBOLS))
    counts = client.sequence.counts
    assert counts.held == 0
    found.update(
        passed=client.passed, snapshots=counts.snapshots, gaps=counts.gaps, dropped_held=counts.dropped
    )
    assert counts.passed == client.passed
    return found
