"""Reports: whatever log handlers, filters and the values logged do, the thread that reports goes on."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

import pytest

import lochws
from lochws.system.rate_limit import RateLimit
from lochws.system.report import (
    MAX_WAITING,
    Block,
    is_enabled,
    is_interrupt,
    logger,
    report,
    report_aside,
    safe_name,
    safe_repr,
    safe_str,
)

from ..faults.registry import fault
from ..support.seen import PATIENCE, eventually


class Calling(logging.Handler):
    """A log handler that calls a function with each record."""

    def __init__(self, function: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._function = function

    def emit(self, record: logging.LogRecord) -> None:
        self._function(record)


@contextmanager
def handled(function: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    handler = Calling(function)
    logging.getLogger("lochws").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("lochws").removeHandler(handler)


def on_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


class Textless:
    """An object that nobody can show."""

    def __repr__(self) -> str:
        raise SystemExit("no text")


class TextlessError(Exception):
    """An exception that nobody can show."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


@fault("program", "A log handler or filter raises")
@pytest.mark.parametrize("kind", [OSError, RecursionError, SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("log", [report, report_aside])
def test_a_log_handler_that_raises_does_no_harm_and_stderr_shows_the_message(
    kind: type[BaseException], log: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: logging.LogRecord) -> None:
        raise kind("disk full")

    went_on = threading.Event()
    with handled(fail):
        on_a_thread(lambda: (log(logging.ERROR, "the %s", "message"), went_on.set()))
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "lochws-log"])
    assert went_on.is_set()
    shown = capsys.readouterr().err
    assert "lochws: the message" in shown
    assert "disk full" in shown


@fault("program", "A log handler or filter raises")
def test_a_filter_that_raises_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise LookupError("which request?")

    logger = logging.getLogger("lochws")
    logger.addFilter(refuse)
    try:
        report(logging.ERROR, "seen all the same")
    finally:
        logger.removeFilter(refuse)
    assert "seen all the same" in capsys.readouterr().err


def test_ctrl_c_on_the_main_thread_goes_on_to_the_program() -> None:
    def interrupt(_: logging.LogRecord) -> None:
        raise KeyboardInterrupt

    with handled(interrupt), pytest.raises(KeyboardInterrupt):
        report(logging.ERROR, "about to be interrupted")


def test_an_exception_is_an_interrupt_on_the_main_thread_alone() -> None:
    assert is_interrupt(SystemExit())
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(OSError())
    found: list[bool] = []
    on_a_thread(lambda: found.append(is_interrupt(SystemExit())))
    assert found == [False]


def test_what_has_no_text_is_named_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    def log() -> None:
        report(logging.ERROR, "%s and %r", Textless(), TextlessError(), error=TextlessError())
        found.append(safe_str(Textless()))

    found: list[str] = []
    on_a_thread(log)
    assert "Textless" in caplog.messages[0]
    assert "TextlessError" in caplog.messages[0]
    assert found == ["<Textless: its text cannot be shown>"]
    assert safe_repr(TextlessError()) == "<TextlessError: its text cannot be shown>"


def test_what_a_server_says_can_neither_forge_a_line_nor_take_over_a_terminal(
    caplog: pytest.LogCaptureFixture
) -> None:
    words = "bye\nERROR all is lost\x1b[2J\u202e"
    report(logging.ERROR, "closed: %s, %r", words, words)
    report(logging.ERROR, "failed: %s", OSError(words))
    assert caplog.messages == [
        r"closed: bye\nERROR all is lost\x1b[2J\u202e, 'bye\nERROR all is lost\x1b[2J\u202e'",
        r"failed: bye\nERROR all is lost\x1b[2J\u202e",
    ]


def test_a_block_keeps_its_lines_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    report(logging.ERROR, "the stack:\n%s", Block("  one\n\ttwo\x1b[2J"))
    assert caplog.messages == ["the stack:\n  one\n\ttwo\\x1b[2J"]


def test_a_callable_is_named_whatever_it_is() -> None:
    class Odd:
        def __getattr__(self, name: str) -> object:
            raise ValueError(name)

        def __repr__(self) -> str:
            return "odd"

    assert safe_name(on_a_thread) == "on_a_thread"
    assert safe_name(Odd()) == "odd"


def test_a_log_handler_may_report_itself_and_ends_no_program_by_recursion() -> None:
    seen: list[str] = []

    def again(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        report(logging.ERROR, "inside %s", record.getMessage())

    with handled(again):
        report(logging.ERROR, "outside")
    # From Python 3.13.4 on, logging itself ignores what is logged by a handler.
    assert seen in (["outside", "inside outside"], ["outside"])


def test_a_record_says_where_and_on_which_thread_it_was_made(caplog: pytest.LogCaptureFixture) -> None:
    for log in (report, report_aside):
        caplog.clear()
        thread = threading.Thread(target=log, args=(logging.WARNING, "here"), name="the-maker")
        thread.start()
        thread.join(PATIENCE)
        eventually(lambda: caplog.records)
        assert caplog.records[0].threadName == "the-maker"
        assert caplog.records[0].thread == thread.ident
    report(logging.ERROR, "from this file")
    assert os.path.samefile(caplog.records[-1].pathname, __file__)


def test_fields_become_attributes_of_the_record_and_are_safe_to_show(
    caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"ws_text": "a\x1b[2J\n", "ws_number": 1.5, "ws_flag": True, "ws_none": None, "ws_kind": str}
    for log in (report, report_aside):
        caplog.clear()
        log(logging.WARNING, "here", fields=fields)
        eventually(lambda: caplog.records)
        [record] = caplog.records
        found = {name: value for name, value in vars(record).items() if name.startswith("ws_")}
        assert found == {
            "ws_text": r"a\x1b[2J\n", "ws_number": 1.5, "ws_flag": True, "ws_none": None,
            "ws_kind": "<class 'str'>",
        }


def test_a_record_has_the_time_at_which_it_was_made_and_not_the_time_at_which_it_was_logged() -> None:
    entered, go = threading.Event(), threading.Event()
    records: list[logging.LogRecord] = []

    def stay(record: logging.LogRecord) -> None:
        records.append(record)
        entered.set()
        assert go.wait(PATIENCE)

    with handled(stay):
        report_aside(logging.ERROR, "slow")
        assert entered.wait(PATIENCE)
        report_aside(logging.ERROR, "another")
        made = time()
        while time() - made < 0.01:
            pass
        go.set()
        eventually(lambda: len(records) == 2)
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "lochws-log"])
    assert records[1].created <= made
    assert records[1].msecs == int(records[1].created % 1 * 1000)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING])
@pytest.mark.parametrize("disabled", [0, logging.INFO])
@pytest.mark.parametrize("own", [logging.NOTSET, logging.INFO])
def test_the_level_is_checked_as_the_logger_does_it(
    level: int, disabled: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", disabled)
    monkeypatch.setattr(logger, "level", own)
    logger._cache.clear()  # type: ignore[attr-defined]  # as setLevel does
    assert is_enabled(level) is logger.isEnabledFor(level)
    logger._cache.clear()  # type: ignore[attr-defined]


class TestAside:
    def test_the_caller_does_not_wait_for_a_log_handler(self) -> None:
        entered, go = threading.Event(), threading.Event()

        def stay(_: logging.LogRecord) -> None:
            entered.set()
            assert go.wait(PATIENCE)

        with handled(stay):
            report_aside(logging.ERROR, "slow")
            assert entered.wait(PATIENCE)
            report_aside(logging.ERROR, "another")
            go.set()
            eventually(lambda: not [one for one in threading.enumerate() if one.name == "lochws-log"])

    def test_what_a_slow_log_handler_has_no_time_for_is_counted(self) -> None:
        entered, go = threading.Event(), threading.Event()
        seen: list[str] = []

        def stay(record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            entered.set()
            assert go.wait(PATIENCE)

        with handled(stay):
            report_aside(logging.ERROR, "0")
            assert entered.wait(PATIENCE)
            for number in range(1, MAX_WAITING + 8):
                report_aside(logging.ERROR, "%d", number)
            go.set()
            eventually(lambda: not [one for one in threading.enumerate() if one.name == "lochws-log"])
        assert "7 reports were left out: the log handlers are too slow" in seen
        assert seen[-1] == str(MAX_WAITING)

    def test_it_goes_on_after_an_interruption_while_its_thread_starts(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "lochws-log"])

        def interrupted(_: threading.Thread) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                report_aside(logging.ERROR, "first")
        report_aside(logging.ERROR, "second")
        eventually(lambda: caplog.messages == ["first", "second"])

    def test_reports_are_logged_in_order(self, caplog: pytest.LogCaptureFixture) -> None:
        for number in range(50):
            report_aside(logging.ERROR, "%d", number)
        eventually(lambda: len(caplog.messages) == 50)
        assert caplog.messages == [str(number) for number in range(50)]


def test_a_flood_is_limited_and_what_was_left_out_is_counted(
    caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    limit = RateLimit(burst=3, per_second=2.0, clock=lambda: now[0])
    for _ in range(10):
        report(logging.ERROR, "again", limit=limit)
    assert caplog.messages == ["again"] * 3
    now[0] = 0.5
    report(logging.ERROR, "again", limit=limit)
    assert caplog.messages[3:] == ["again (7 more like this were suppressed)"]


def test_nothing_else_in_lochws_writes_to_the_log() -> None:
    """A log handler that raises would end the thread that calls it.

    `Log` is a handler of events. The drop-in for websocket-client logs on its user's threads, to the logger
    of that package.
    """
    package = Path(lochws.__file__).parent
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "getLogger" in path.read_text(encoding="utf-8")
    }
    # The command line and the test kit are not part of a running app.
    own = {name for name in writers if name.startswith(("cli/", "testing/", "__main__.py"))}
    assert writers - own == {"system/report.py", "handlers/log.py", "compat/websocket/_logging.py"}
