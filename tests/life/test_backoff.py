"""Back-off without waiting: times and random numbers are passed in."""

from __future__ import annotations

import inspect
import logging
import random
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lochws import Backoff, events
from lochws.events import ConnectFail, Disconnected, Rejected
from lochws.life.backoff import USE_BACKOFF, AttemptEnd, Retries, retry_after
from lochws.persist import persist
from lochws.response import Response

from ..faults.registry import fault

LOST = Disconnected("connection lost: ended by the server")
#: The policy of `persist` without one: contract section 14.
LOMONDS = Backoff(5, 30, factor=2)
#: The wall clock of these tests.
WALL = 1_750_000_000.0
JUST_BELOW_1 = 1 - 2**-53


def rejected(status: int = 503, retry: str | None = None) -> Rejected:
    """Return a refusal with that Retry-After header."""
    line = "" if retry is None else f"Retry-After: {retry}\r\n"
    return Rejected(Response(f"HTTP/1.1 {status} No\r\n{line}\r\n".encode()), "refused")


class Row:
    """A series of attempts under one policy, at times that the test chooses."""

    def __init__(self, backoff: Backoff, draw: float = 0.0, *, is_shared: bool = False) -> None:
        self.draw = draw
        self.now = 1000.0
        self._retries = Retries(backoff, lambda: self.draw, is_shared=is_shared)

    def wait_after(self, outcome: AttemptEnd = LOST, *, opened_for: float | None = None) -> float | None:
        """Return the wait after one more attempt, which failed or was open for that many seconds."""
        if opened_for is not None:
            self._retries.opened(self.now)
            self.now += opened_for
        self._retries.ended(self.now)
        return self._retries.next_wait(outcome, self.now, WALL)

    def range_after(
        self, outcome: AttemptEnd = LOST, *, opened_for: float | None = None
    ) -> tuple[float, float]:
        """Return the shortest and the longest possible wait after one more attempt."""
        self.draw = 0.0
        least = self.wait_after(outcome, opened_for=opened_for)
        self.draw = JUST_BELOW_1
        most = self._retries.next_wait(outcome, self.now, WALL)
        assert least is not None
        assert most is not None
        return least, round(most, 6)


class TestRanges:
    """Growth of the range of waits."""

    def test_with_the_defaults_of_persist_they_are_lomonds(self) -> None:
        row = Row(LOMONDS)
        assert row.range_after(opened_for=3600) == (5, 6)
        expected = [(5, 7), (5, 9), (5, 13), (5, 21), (5, 30), (5, 30), (5, 30)]
        assert [row.range_after() for _ in expected] == expected

    def test_with_threads_of_its_own_the_range_of_an_app_grows_by_a_quarter_up_to_30_s(self) -> None:
        row = Row(Backoff())
        assert row.range_after(opened_for=10) == (0.1, 1.1)
        ranges = [row.range_after()[1] for _ in range(16)]
        assert ranges[:4] == [1.35, 1.6625, 2.053125, 2.541406]
        assert ranges[-2:] == [28.521709, 30]

    def test_on_shared_threads_the_range_doubles(self) -> None:
        row = Row(Backoff(), is_shared=True)
        ranges = [row.range_after() for _ in range(6)]
        assert ranges == [(0.1, 2.1), (0.1, 4.1), (0.1, 8.1), (0.1, 16.1), (0.1, 30), (0.1, 30)]

    def test_the_whole_range_is_random(self) -> None:
        dice = random.Random(7)
        row = Row(LOMONDS)
        for _ in range(5):
            row.wait_after()
        waits = []
        for _ in range(2000):
            row.draw = dice.random()
            waits.append(row.wait_after())
        assert all(5 <= wait < 30 for wait in waits)
        tenths = [sum(5 + 2.5 * tenth <= wait < 7.5 + 2.5 * tenth for wait in waits) for tenth in range(10)]
        assert min(tenths) > 140
        assert max(tenths) < 260

    @pytest.mark.parametrize("factor", [1, 1.5, 3, 10])
    def test_the_factor_is_what_it_grows_by(self, factor: float) -> None:
        row = Row(Backoff(0, 1e6, factor=factor))
        ranges = [row.range_after() for _ in range(4)]
        assert ranges == [(0, pytest.approx(factor**n)) for n in range(1, 5)]

    def test_ten_thousand_failures_stay_at_the_ceiling(self) -> None:
        row = Row(Backoff(0, 7, factor=1e300))
        for _ in range(10_000):
            row.wait_after()
        assert row.range_after() == (0, 7)

    def test_a_range_of_nothing_is_a_fixed_wait(self) -> None:
        row = Row(Backoff(2, 2))
        assert [row.range_after() for _ in range(3)] == [(2, 2)] * 3

    @given(
        st.floats(0, 100), st.floats(0, 100), st.floats(1, 1e6), st.integers(0, 2000),
        st.floats(0, 1, exclude_max=True),
    )
    def test_no_policy_waits_below_its_least_or_above_its_most(
        self, low: float, more: float, factor: float, failures: int, draw: float
    ) -> None:
        row = Row(Backoff(low, low + more, factor=factor), draw)
        for _ in range(failures % 50):
            row.wait_after()
        wait = row.wait_after()
        assert wait is not None
        assert low <= wait <= (low + more) * (1 + 1e-12)


class TestStability:
    """Only a connection that was open for a while resets the count of failures (contract Q42)."""

    @fault("program", "The server accepts and drops again and again")
    def test_accept_then_drop_goes_on_growing(self) -> None:
        row = Row(Backoff(5, 30, factor=2, stable_after=10))
        ranges = [row.range_after(opened_for=9.9) for _ in range(5)]
        assert ranges == [(5, 7), (5, 9), (5, 13), (5, 21), (5, 30)]

    def test_a_stable_connection_ends_the_row(self) -> None:
        row = Row(Backoff(5, 30, factor=2, stable_after=10))
        for _ in range(5):
            row.wait_after()
        assert row.range_after(opened_for=10) == (5, 6)
        assert row.range_after() == (5, 7)

    def test_with_stable_after_0_every_open_connection_is_stable_as_in_lomond(self) -> None:
        row = Row(Backoff(5, 30, stable_after=0))
        row.wait_after()
        assert row.range_after(opened_for=0) == (5, 6)

    def test_an_earlier_connection_says_nothing_about_a_failed_attempt(self) -> None:
        row = Row(LOMONDS)
        row.wait_after(opened_for=3600)
        row.now += 3600
        assert row.range_after() == (5, 7)


    def test_an_end_that_the_user_wanted_is_not_a_failure_and_a_stable_connection_resets_it(self) -> None:
        row = Row(Backoff(5, 30, factor=2, stable_after=10))
        row.wait_after()
        row._retries.opened(row.now)
        row._retries.ended(row.now + 1, wanted=True)
        assert row.range_after() == (5, 9)
        row._retries.opened(row.now)
        row._retries.ended(row.now + 10, wanted=True)
        assert row.range_after() == (5, 7)


def closed(code: int | None, *, ended_by: str = "server", graceful: bool = True) -> Disconnected:
    """Return the end of a connection after the server's Close frame."""
    return Disconnected("closed", graceful, ended_by=ended_by, received_code=code)


class TestCleanEnds:
    """The first wait after the server has ended a stable connection cleanly."""

    @pytest.mark.parametrize("code", [1000, 1001, 1012])
    def test_it_is_at_most_100_ms_and_random(self, code: int) -> None:
        assert Row(Backoff()).range_after(closed(code), opened_for=10) == (0, 0.1)

    @pytest.mark.parametrize("code", [1000, 1001, 1012])
    def test_the_next_waits_are_as_after_any_other_end(self, code: int) -> None:
        row = Row(Backoff())
        row.wait_after(closed(code), opened_for=10)
        assert row.range_after(ConnectFail("refused")) == (0.1, 1.35)

    @pytest.mark.parametrize(
        "end",
        [LOST, closed(None), closed(1002), closed(1006), closed(1008), closed(1011), closed(1013),
         closed(4000), closed(1001, ended_by="client"), closed(1001, ended_by="network", graceful=False)],
        ids=str,
    )
    def test_any_other_end_waits_as_usual(self, end: Disconnected) -> None:
        assert Row(Backoff()).range_after(end, opened_for=3600) == (0.1, 1.1)

    def test_an_unstable_connection_waits_as_usual_and_longer_each_time(self) -> None:
        row = Row(Backoff(stable_after=10))
        ranges = [row.range_after(closed(1000), opened_for=9.9) for _ in range(3)]
        assert ranges == [(0.1, 1.35), (0.1, 1.6625), (0.1, 2.053125)]

    def test_stable_after_says_what_is_stable(self) -> None:
        assert Row(Backoff(stable_after=60)).range_after(closed(1001), opened_for=59) == (0.1, 1.35)
        assert Row(Backoff(stable_after=60)).range_after(closed(1001), opened_for=60) == (0, 0.1)

    def test_apps_that_share_their_threads_do_not_all_return_together(self) -> None:
        assert Row(Backoff(), is_shared=True).range_after(closed(1012), opened_for=10) == (0.1, 1.1)

    def test_a_longer_min_wait_holds_after_a_clean_end_too(self) -> None:
        assert Row(Backoff(5, 30)).range_after(closed(1001), opened_for=10) == (5, 6)

    @pytest.mark.parametrize("is_shared", [False, True])
    def test_clean_wait_sets_it_whatever_else_is_set(self, is_shared: bool) -> None:
        row = Row(Backoff(5, 30, clean_wait=20), is_shared=is_shared)
        assert row.range_after(closed(1001), opened_for=10) == (0, 20)
        row = Row(Backoff(clean_wait=0), is_shared=is_shared)
        assert row.range_after(closed(1000), opened_for=10) == (0, 0)

    def test_use_backoff_means_this_wait_too(self) -> None:
        row = Row(Backoff(retry=lambda outcome: USE_BACKOFF), 0.5)
        assert row.wait_after(closed(1000), opened_for=10) == 0.05


class TestFatalEnds:
    """Ends after which no attempt follows: `fatal_codes` and `fatal_statuses`."""

    POLICY = Backoff(fatal_codes={4400, 1008}, fatal_statuses=[401, 407])

    @pytest.mark.parametrize(
        ("end", "fatal"),
        [
            (closed(4400), True), (closed(1008), True), (closed(4401), False), (closed(None), False),
            (LOST, False),
            (closed(4400, ended_by="network", graceful=False), True),
            (closed(4400, ended_by="client"), False),
            (rejected(401), True), (rejected(403), False),
            (ConnectFail("no", response=Response(b"HTTP/1.1 407 No\r\n\r\n")), True),
            (ConnectFail("no", response=Response(b"HTTP/1.1 403 No\r\n\r\n")), False),
            (ConnectFail("no"), False),
        ],
    )
    def test_the_code_or_the_status_decides(self, end: AttemptEnd, fatal: bool) -> None:
        assert self.POLICY.is_fatal(end) is fatal
        assert not Backoff().is_fatal(end)

    def test_a_policy_with_sets_can_be_hashed_and_does_not_change_with_them(self) -> None:
        codes = {4400}
        policy = Backoff(fatal_codes=codes)
        codes.add(4401)
        assert policy.fatal_codes == {4400}
        assert hash(policy) == hash(Backoff(fatal_codes=[4400]))

    @pytest.mark.parametrize("event", [closed(4400), rejected(401), ConnectFail("no")], ids=repr)
    def test_the_text_of_a_fatal_event_says_so(self, event: AttemptEnd) -> None:
        assert not event.fatal
        assert "fatal" not in str(event)
        event.fatal = True
        assert str(event).endswith("; this is fatal, so there will be no further attempt")

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"fatal_codes": 4400}, "fatal_codes=4400: expected a set of close codes, such as {4400, 4401}"),
            ({"fatal_codes": "4400"}, "fatal_codes='4400': expected a set"),
            ({"fatal_codes": {"4400"}}, "fatal_codes: '4400' is not a whole number"),
            ({"fatal_codes": {True}}, "fatal_codes: True is not a whole number"),
            ({"fatal_codes": {4400.0}}, "fatal_codes: 4400.0 is not a whole number"),
            ({"fatal_codes": {401}}, "fatal_codes: 401 is not a close code that a server can send"),
            ({"fatal_codes": {1006}}, "fatal_codes: 1006 is not a close code that a server can send"),
            ({"fatal_codes": {5000}}, "fatal_codes: 5000 is not a close code that a server can send"),
            ({"fatal_statuses": 401}, "fatal_statuses=401: expected a set of HTTP statuses, such as {401"),
            ({"fatal_statuses": None}, "fatal_statuses=None: expected a set"),
            ({"fatal_statuses": {101}}, "fatal_statuses=101: expected a whole number from 200 to 599"),
            ({"fatal_statuses": {4400}}, "fatal_statuses=4400: expected a whole number from 200 to 599"),
        ],
        ids=str,
    )
    def test_what_no_server_sends_is_refused(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            Backoff(**options)
        assert said in str(caught.value)


class TestRetryAfter:
    """The header (RFC 9110 section 10.2.3)."""

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120), ("0", 0), ("1.5", 1.5), (" 7 ", 7), ("-5", 0), ("inf", float("inf")),
            ("1e999", float("inf")), ("-inf", 0), ("nan", None), ("", None), (None, None), ("soon", None),
            ("1 hour", None), ("Wed, 99 Foo 2026 99:99:99 GMT", None),
            (formatdate(WALL + 90, usegmt=True), 90),
            (formatdate(WALL - 90, usegmt=True), 0),
        ],
    )
    def test_it_is_seconds_or_a_date(self, value: str | None, seconds: float | None) -> None:
        assert retry_after(value, WALL) == seconds

    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_any_text_is_seconds_or_nothing(self, value: str) -> None:
        seconds = retry_after(value, WALL)
        assert seconds is None or seconds >= 0

    @given(
        st.from_regex(
            r"(?a:\w{3}, )?\d{1,3} (Jan|Feb|Nov|xyz) \d{1,6} \d{1,3}:\d{1,3}(:\d{1,4})?"
            r"( (GMT|-0000|[+-]\d{4,9}))?",
            fullmatch=True,
        )
    )
    def test_anything_like_a_date_is_seconds_or_nothing(self, value: str) -> None:
        seconds = retry_after(value, WALL)
        assert seconds is None or seconds >= 0

    def test_a_refusals_header_lengthens_the_wait(self) -> None:
        assert Row(Backoff(5, 30)).wait_after(rejected(retry="120")) == 120

    def test_it_never_shortens_it(self) -> None:
        """A Retry-After of 0 does not remove the wait."""
        assert Row(Backoff(5, 30)).wait_after(rejected(retry="0")) == 5
        assert Row(Backoff(5, 30)).wait_after(rejected(retry="-3")) == 5

    def test_it_is_bounded(self) -> None:
        row = Row(Backoff(5, 30, max_retry_after=60))
        for value in ("61", "1e300", "inf", formatdate(WALL + 10**7, usegmt=True)):
            assert row.wait_after(rejected(retry=value)) == 60

    def test_the_bound_is_five_minutes_by_default(self) -> None:
        assert Row(Backoff()).wait_after(rejected(retry="86400")) == 300

    def test_it_can_be_ignored(self) -> None:
        row = Row(Backoff(5, 30, respect_retry_after=False))
        assert row.wait_after(rejected(retry="120")) == 5

    def test_it_counts_for_the_refusal_that_had_it_alone(self) -> None:
        row = Row(Backoff(5, 30))
        row.wait_after(rejected(retry="120"))
        assert row.wait_after() == 5


class TestGivingUp:
    """`max_attempts` and `max_elapsed`."""

    def test_after_a_number_of_failures_in_a_row(self) -> None:
        row = Row(Backoff(5, 30, max_attempts=3))
        assert [row.wait_after() for _ in range(3)] == [5, 5, None]

    def test_a_stable_connection_begins_the_count_again(self) -> None:
        row = Row(Backoff(5, 30, max_attempts=2))
        waits = [row.wait_after(), row.wait_after(opened_for=10), row.wait_after(), row.wait_after()]
        assert waits == [5, 5, 5, None]

    def test_after_a_time_since_the_first_failure_in_a_row(self) -> None:
        row = Row(Backoff(5, 30, max_elapsed=100))
        assert row.wait_after() == 5
        row.now += 99
        assert row.wait_after() == 5
        row.now += 1
        assert row.wait_after() is None

    def test_a_stable_connection_begins_the_time_again(self) -> None:
        row = Row(Backoff(5, 30, max_elapsed=100))
        row.wait_after()
        row.now += 1000
        assert row.wait_after(opened_for=10) == 5
        assert row.wait_after() == 5

    def test_never_by_default(self) -> None:
        row = Row(Backoff())
        for _ in range(1000):
            row.now += 1e6
            assert row.wait_after() is not None


class TestRetryHook:
    """The `retry` hook decides for each cause."""

    def test_it_is_called_with_each_outcome(self) -> None:
        seen: list[AttemptEnd] = []
        row = Row(Backoff(5, 30, retry=lambda outcome: seen.append(outcome) or 1))
        outcomes = [rejected(), ConnectFail("no"), LOST]
        assert [row.wait_after(outcome) for outcome in outcomes] == [1, 1, 1]
        assert seen == outcomes

    def test_none_gives_up_usual_waits_as_usual_and_0_does_not_wait(self) -> None:
        for answer, wait in ((None, None), (USE_BACKOFF, 5), (0, 0), (12.5, 12.5), (1e6, 1e6)):
            assert Row(Backoff(5, 30, retry=lambda outcome, answer=answer: answer)).wait_after() == wait

    def test_by_cause_such_as_401_or_close_code_1008(self) -> None:
        def retry(outcome: AttemptEnd) -> Any:
            if isinstance(outcome, Rejected) and outcome.response.status_code == 401:
                return None
            if isinstance(outcome, Disconnected) and outcome.received_code == 1008:
                return 60
            return USE_BACKOFF

        row = Row(Backoff(5, 30, retry=retry))
        assert row.wait_after(rejected(401)) is None
        assert row.wait_after(rejected(503)) == 5
        assert row.wait_after(Disconnected(received_code=1008)) == 60
        assert row.wait_after(Disconnected(received_code=1001)) == 5

    def test_usual_has_retry_after_in_it(self) -> None:
        row = Row(Backoff(5, 30, retry=lambda outcome: USE_BACKOFF))
        assert row.wait_after(rejected(429, "20")) == 20

    def test_limits_hold_whatever_it_says(self) -> None:
        row = Row(Backoff(max_attempts=1, retry=lambda outcome: 1))
        assert row.wait_after() is None

    @pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), "5", True, [], ZeroDivisionError])
    def test_a_wrong_answer_or_an_exception_is_logged_and_waits_as_usual(
        self, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def retry(outcome: AttemptEnd) -> Any:
            if answer is ZeroDivisionError:
                raise answer
            return answer

        with caplog.at_level(logging.ERROR, "lochws"):
            assert Row(Backoff(5, 30, retry=retry)).wait_after() == 5
        assert "retry hook failed on Disconnected" in caplog.text
        assert "Traceback" in caplog.text


class TestValidation:
    """An invalid policy is refused when it is made; the error names the argument and the value."""

    @pytest.mark.parametrize(
        "name",
        ["min_wait", "max_wait", "factor", "max_retry_after", "max_attempts", "max_elapsed", "stable_after",
         "clean_wait"],
    )
    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", True, [1]])
    def test_numbers_are_numbers_and_not_below_their_least(self, name: str, value: Any) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            Backoff(**{name: value})
        assert f"{name}={value!r}" in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("factor", 0.99), ("max_attempts", 0), ("max_attempts", 1.5), ("retry", "always"), ("retry", 5),
         ("respect_retry_after", "no"), ("respect_retry_after", None)],
    )
    def test_each_has_its_own_bounds(self, name: str, value: Any) -> None:
        with pytest.raises((TypeError, ValueError)) as caught:
            Backoff(**{name: value})
        assert f"{name}={value!r}" in str(caught.value)

    def test_the_longest_wait_is_not_below_the_shortest(self) -> None:
        with pytest.raises(ValueError, match="max_wait=3: expected at least min_wait=5"):
            Backoff(5, 3)

    def test_the_words_are_lomonds_and_come_first(self) -> None:
        assert (Backoff(1, 2).min_wait, Backoff(1, 2).max_wait) == (1, 2)

    def test_a_policy_never_changes_so_that_apps_may_share_it(self) -> None:
        with pytest.raises(AttributeError):
            Backoff().min_wait = 1  # type: ignore[misc]


def test_back_off_is_an_event_of_its_own() -> None:
    assert events.BackOff(1.25).delay == 1.25


def test_waits_are_drawn_from_all_of_the_range() -> None:
    retries = [Retries(Backoff(min_wait=0, max_wait=1)) for _ in range(300)]
    waits = [one.next_wait(rejected(), 0.0, 0.0) for one in retries]
    assert all(wait is not None and 0 <= wait <= 1 for wait in waits)
    assert max(wait for wait in waits if wait is not None) > 0.6


def test_persist_has_the_defaults_that_its_users_know() -> None:
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(persist).parameters.items()
        if parameter.default is not parameter.empty
    }
    assert defaults == {
        "poll": 5, "min_wait": 5, "max_wait": 30, "ping_rate": 30, "ping_timeout": "auto", "exit_event": None,
        "respect_retry_after": True, "auto_pong": True, "close_timeout": 30.0, "backoff": None,
        "stale_after": None, "on_stale": "reconnect",
    }
