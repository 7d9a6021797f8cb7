"""The fixtures as users see them: small test files, each run by a pytest of its own."""

from __future__ import annotations

import configparser
import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(120)  # each test starts a Python of its own, or several

ROOT = Path(__file__).parents[2]
#: The beginning of a user's test file.
IMPORTS = """
    import threading
    import pytest
    from lochws import Backoff, Threads, WebSocketApp, events
    from lochws.testing import accept, close, echo, fin, ignore_close, send, silence, wait_for
"""

Users = Callable[..., pytest.RunResult]


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Users:
    """Run a user's tests where lochws is installed, with warnings as errors; takes options of pytest, too."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    site = pytester.mkdir("site")
    installed = site / "lochws-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: lochws\nVersion: 1\n")
    points = settings["options.entry_points"]["pytest11"]
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{points.strip()}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, ROOT))))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(tests: str, *options: str, imports: str = IMPORTS) -> pytest.RunResult:
        pytester.makepyfile(textwrap.dedent(imports) + textwrap.dedent(tests))
        pytester.makeini("[pytest]\nfilterwarnings = error\n")
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio", *options)

    return run


def test_tests_of_apps_that_work_pass(users: Users) -> None:
    users("""
        shared = Threads()

        class Feed(WebSocketApp):
            def __init__(self, url, **options):
                super().__init__(url, **options)
                self.prices = []

            def on_ready(self, event):
                self.send_text("subscribe")

            def on_text(self, event):
                self.prices.append(event.json["price"])

        def price(number):
            return send('{"price": %d}' % number)

        SUBSCRIBED = [accept(), wait_for("subscribe")]

        def test_a_handler_has_run_when_wait_for_returns(ws_server, ws_events):
            server = ws_server([*SUBSCRIBED, price(41), price(42)])
            feed = Feed(server.url)
            log = ws_events(feed)
            feed.start()
            assert log.wait_for(events.Text, count=2).json == {"price": 42}
            assert feed.prices == [41, 42]
            assert server.messages == ["subscribe"]

        def test_the_matching_event_is_found_and_others_are_skipped(ws_server, ws_events):
            feed = Feed(ws_server([*SUBSCRIBED, *map(price, range(5))]).url)
            log = ws_events(feed)
            feed.start()
            assert log.wait_for(events.Text, where=lambda event: event.json["price"] == 3)
            assert log.wait_for(events.Event).json["price"] == 4
            log.assert_exhausted()

        def test_it_subscribes_again_after_half_a_minute(ws_server, ws_events, ws_clock):
            server = ws_server([*SUBSCRIBED, fin()], [*SUBSCRIBED, price(1)])
            feed = Feed(server.url)
            log = ws_events(feed)
            feed.start(persist=Backoff(min_wait=30, max_wait=30))
            log.wait_for(events.BackOff)
            ws_clock.advance(29)
            log.assert_exhausted()
            ws_clock.advance(1)
            log.wait_for(events.Text)
            assert server.messages == ["subscribe"] * 2

        def test_as_much_time_passes_as_it_takes(ws_server, ws_events, ws_clock):
            server = ws_server([*SUBSCRIBED, silence()])
            feed = Feed(server.url)
            log = ws_events(feed)
            feed.start(poll=0, ping_rate=600, persist=Backoff(min_wait=86400, max_wait=86400))
            began = ws_clock.monotonic()
            log.wait_for(events.Unresponsive, timeout=3600)
            assert ws_clock.monotonic() - began == 1800  # the first ping was answered
            log.wait_for(events.Ready, timeout=100000)
            assert ws_clock.monotonic() - began == 1800 + 86400

        def test_shared_threads_that_were_made_before_the_clock(ws_server, ws_events, ws_clock):
            server = ws_server()
            feeds = [WebSocketApp(server.url, threads=shared) for _ in range(3)]
            logs = [ws_events(feed) for feed in feeds]
            for feed in feeds:
                feed.start()
            for log in logs:
                log.wait_for(events.Ready)
            ws_clock.advance(300)
            assert all(feed.is_active for feed in feeds)

        def test_an_exception_that_was_waited_for_does_not_fail_the_test(ws_server, ws_events):
            feed = Feed(ws_server([*SUBSCRIBED, send("no JSON")]).url)
            log = ws_events(feed)
            feed.start()
            assert "no JSON" in str(log.wait_for_error(ValueError).__cause__ or "no JSON")

        def test_over_tls(ws_server, ws_events):
            server = ws_server([accept(), send("secret")], tls=True)
            app = WebSocketApp(server.url, ssl_cafile=ws_server.ca_file)
            log = ws_events(app)
            app.start(persist=False)
            assert log.wait_for(events.Text).text == "secret"

        def test_messages_in_batches_are_logged_too(ws_server, ws_events):
            app = WebSocketApp(ws_server().url)
            batches = []
            app.on("batch")(batches.append)
            app.on("ready")(lambda event: app.send_many(["one", "two"]))
            log = ws_events(app)
            app.start()
            assert log.wait_for(events.Text, count=2).text == "two"
            app.stop()
            assert [event.text for batch in batches for event in batch] == ["one", "two"]

        def test_an_app_whose_server_ignores_its_close_is_stopped_all_the_same(
            ws_server, ws_events, ws_clock
        ):
            app = WebSocketApp(ws_server([accept(), ignore_close()]).url)
            log = ws_events(app)
            app.start(close_timeout=300)
            log.wait_for(events.Ready)

        def test_an_app_that_was_never_started_is_left_as_it_is(ws_events):
            app = WebSocketApp("ws://127.0.0.1:1/")
            ws_events(app).assert_exhausted()
            assert app.state.value == "new"
    """).assert_outcomes(passed=10)


def test_each_mistake_fails_the_test_with_an_explanation(users: Users) -> None:
    result = users("""
        def started(app, ws_events, **options):
            log = ws_events(app, **options)
            app.start(persist=False)
            return log

        def test_in_vain(ws_server, ws_events):
            log = started(WebSocketApp(ws_server().url), ws_events)
            log.wait_for(events.Ready)
            log.wait_for(events.Text, timeout=0.05)

        def test_timeout_of_virtual_seconds(ws_server, ws_events, ws_clock):
            log = started(WebSocketApp(ws_server().url), ws_events)
            log.wait_for(events.Text, timeout=600)

        def test_no_rest(ws_server, ws_events, ws_clock):
            app = WebSocketApp(ws_server().url)
            over = threading.Event()
            app.on("ready")(lambda event: over.wait(60))
            ws_clock.patience = 0.05
            try:
                started(app, ws_events).wait_for(events.Text, timeout=1)
            finally:
                over.set()

        def test_over(ws_server, ws_events):
            log = started(WebSocketApp(ws_server([accept(), fin()]).url), ws_events)
            log.wait_for(events.Text)

        def test_not_exhausted(ws_server, ws_events, ws_clock):
            log = started(WebSocketApp(ws_server([accept(), send("one"), send("two")]).url), ws_events)
            log.wait_for(events.Text)
            log.assert_exhausted()

        def test_script(ws_server, ws_events):
            log = started(WebSocketApp(ws_server([accept(), wait_for("subscribe")]).url), ws_events)
            log.wait_for(events.Ready)

        def test_script_of_a_test_that_has_failed(ws_server, ws_events):
            server = ws_server([accept(), wait_for("subscribe")])
            started(WebSocketApp(server.url), ws_events).wait_for(events.Ready)
            raise RuntimeError("failed anyway")

        def test_handler(ws_server, ws_events):
            app = WebSocketApp(ws_server().url)
            app.on("ready")(lambda event: 1 / 0)
            started(app, ws_events).wait_for(events.Ready)

        def test_stuck(ws_server, ws_events):
            app = WebSocketApp(ws_server().url)

            def sit_there(event):
                threading.Event().wait(30)

            app.on("text")(sit_there)
            log = started(app, ws_events, patience=0.1)
            log.wait_for(events.Ready, timeout=10)
            app.send_text("sit down")

        def test_kind(ws_events):
            ws_events(WebSocketApp("ws://127.0.0.1:1/")).wait_for("ready")

        def test_script_that_fails(ws_server, ws_events):
            def check(connection):
                assert connection.receive() == "subscribe"

            app = WebSocketApp(ws_server([accept(), check, silence()]).url)
            app.on("ready")(lambda event: app.send_text("subscribe to what?"))
            started(app, ws_events, patience=60).wait_for(events.Text)

        def test_script_that_waits(ws_server, ws_events):
            server = ws_server([accept(), wait_for("unsubscribe"), send("bye")], patience=0.1)
            app = WebSocketApp(server.url)
            app.on("ready")(lambda event: app.send_many(["one", b"two"]))
            log = ws_events(app, patience=60)
            app.start(persist=False)
            log.wait_for(events.Text)

        def test_never_started(ws_server, ws_events):
            log = ws_events(WebSocketApp(ws_server().url), patience=60)
            log.wait_for(events.Ready)

        def test_never_started_in_virtual_time(ws_server, ws_events, ws_clock):
            ws_events(WebSocketApp(ws_server().url), patience=60).wait_for(events.Ready, timeout=3600)

        def test_no_error(ws_server, ws_events):
            ws_events(WebSocketApp(ws_server().url), patience=60).wait_for_error(ValueError)
    """, "--durations=0", "--durations-min=30")
    result.assert_outcomes(passed=3, failed=12, errors=3)
    said = result.stdout.str()
    for line in (
        "no Text event within 0.05 s.",
        "no Text event within 600 s.",
        "no Text event: the threads did not become idle within 0.05 s:",
        "no Text event before the app stopped.",
        "unexpected: Text(text='two').",
        "did not complete its script; steps left: wait_for('subscribe'); the client sent no message",
        "raised ZeroDivisionError('division by zero')",
        "did not stop within 0.1 s:",
        "in sit_there",
        "expected a class of lochws.events, such as events.Ready",
        "no Text event: the server's script has failed.",
        "AssertionError: assert 'subscribe to what?' == 'subscribe'",
        "; the client sent 'subscribe to what?'",
        "at wait_for('unsubscribe'): no message 'unsubscribe' within 0.1 s; the client sent 'one', b'two'",
        "no Ready event: the app was never started; call its start() before waiting.",
        "no handler raised ValueError: the app was never started",
    ):
        assert line in said, said
    assert "s call" not in said, "one of them did not fail at once"
    result.stdout.re_match_lines_random([
        r"E +-> +\d+\.\d{3} s  Text\(text='two'\)",
        r"E +\d+\.\d{3} s  Ready\(.*",
        r"E +\d+\.\d{3} s  Disconnected\(.*",
    ])


def test_an_app_that_runs_in_a_thread_of_the_users_may_be_started_late(users: Users) -> None:
    users("""
        def test_it(ws_server, ws_events):
            app = WebSocketApp(ws_server().url)
            log = ws_events(app)
            may_start = threading.Event()
            thread = threading.Thread(target=lambda: (may_start.wait(10), app.run_forever()), daemon=True)
            thread.start()
            threading.Timer(0.2, may_start.set).start()
            log.wait_for(events.Ready)
            app.stop()
            thread.join(10)
    """).assert_outcomes(passed=1)


def test_tests_that_do_not_use_it_import_nothing_of_lochws(users: Users) -> None:
    users("""
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("lochws")
            assert not {"lochws", "wsproto", "h11", "trustme"} & set(sys.modules)
    """, imports="").assert_outcomes(passed=1)


def test_it_can_be_switched_off(users: Users) -> None:
    result = users("""
        def test_one():
            pass

        def test_two(ws_clock):
            pass
    """, "-p", "no:lochws")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'ws_clock' not found*"])


def test_without_wsproto_its_fixtures_say_what_to_install(users: Users, pytester: pytest.Pytester) -> None:
    (pytester.path / "site" / "wsproto.py").write_text("raise ImportError('no wsproto')\n")
    result = users("""
        def test_one():
            pass

        def test_two(ws_server):
            pass
    """, imports="")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*lochws.testing needs h11 and wsproto: pip install 'lochws*testing*'*"])
